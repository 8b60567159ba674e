//! Workers and their devices.

use sweep_spec::attempt::Device;

use crate::{
    database::Database,
    error::StoreError,
    record::WorkerRecord,
    run::{count, int},
    sql::{Row, Tx, query},
};

impl Database {
    pub(crate) async fn join_worker(
        &self,
        id: &str,
        host: &str,
        incarnation: u64,
        devices: &[Device],
        unix_ms: i64,
    ) -> Result<bool, StoreError> {
        let failed = |error| self.failed(error);
        let mut tx = self.begin().await?;
        let row = query(
            "INSERT INTO worker (id, host, incarnation, joined_unix_ms) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (id) DO UPDATE SET host = excluded.host, \
             incarnation = excluded.incarnation, joined_unix_ms = excluded.joined_unix_ms \
             WHERE worker.incarnation <= excluded.incarnation RETURNING worker_no",
        )
        .bind(id)
        .bind(host)
        .bind(int(incarnation))
        .bind(unix_ms)
        .fetch_optional(&mut tx)
        .await
        .map_err(failed)?;
        let Some(row) = row else { return Ok(false) };
        let worker_no = row.try_get(0).map_err(failed)?;
        replace_devices(&mut tx, worker_no, devices).await.map_err(failed)?;
        tx.commit().await.map_err(failed)?;
        Ok(true)
    }

    pub(crate) async fn set_devices(
        &self,
        worker: &str,
        devices: &[Device],
    ) -> Result<(), StoreError> {
        let failed = |error| self.failed(error);
        let mut tx = self.begin().await?;
        let row = query("SELECT worker_no FROM worker WHERE id = $1")
            .bind(worker)
            .fetch_one(&mut tx)
            .await
            .map_err(failed)?;
        let worker_no = row.try_get(0).map_err(failed)?;
        replace_devices(&mut tx, worker_no, devices).await.map_err(failed)?;
        tx.commit().await.map_err(failed)
    }

    pub(crate) async fn workers(&self) -> Result<Vec<WorkerRecord>, StoreError> {
        let failed = |error| self.failed(error);
        let rows = query(
            "SELECT worker_no, id, host, incarnation FROM worker ORDER BY joined_unix_ms DESC",
        )
        .fetch_all(self.reader())
        .await
        .map_err(failed)?;
        let mut workers = Vec::with_capacity(rows.len());
        for row in &rows {
            let devices = query(
                "SELECT id, name, backend, memory_bytes, software, refused, canary FROM device \
                 WHERE worker_no = $1 ORDER BY position",
            )
            .bind(row.try_get::<i64>(0).map_err(failed)?)
            .fetch_all(self.reader())
            .await
            .map_err(failed)?;
            let devices = devices.iter().map(device).collect::<Result<_, _>>().map_err(failed)?;
            workers.push(WorkerRecord {
                id: row.try_get(1).map_err(failed)?,
                host: row.try_get(2).map_err(failed)?,
                incarnation: count(row.try_get(3).map_err(failed)?),
                devices,
            });
        }
        Ok(workers)
    }
}

fn device(row: &Row) -> Result<Device, sqlx::Error> {
    Ok(Device {
        id: row.try_get(0)?,
        name: row.try_get(1)?,
        backend: row.try_get(2)?,
        memory_bytes: row.try_get::<Option<i64>>(3)?.map(count),
        software: row.try_get(4)?,
        refused: row.try_get(5)?,
        canary: row.try_get(6)?,
    })
}

async fn replace_devices(
    tx: &mut Tx,
    worker_no: i64,
    devices: &[Device],
) -> Result<(), sqlx::Error> {
    query("DELETE FROM device WHERE worker_no = $1").bind(worker_no).execute(&mut *tx).await?;
    for (position, device) in (0_i64..).zip(devices) {
        query(
            "INSERT INTO device (worker_no, id, position, name, backend, memory_bytes, \
             software, refused, canary) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
             ON CONFLICT (worker_no, id) DO UPDATE SET position = excluded.position, \
             name = excluded.name, backend = excluded.backend, \
             memory_bytes = excluded.memory_bytes, software = excluded.software, \
             refused = excluded.refused, canary = excluded.canary",
        )
        .bind(worker_no)
        .bind(&device.id)
        .bind(position)
        .bind(&device.name)
        .bind(&device.backend)
        .bind(device.memory_bytes.map(int))
        .bind(device.software)
        .bind(&device.refused)
        .bind(&device.canary)
        .execute(&mut *tx)
        .await?;
    }
    Ok(())
}
