//! Curves: the points of one metric along a run's canonical lineage.

use sqlx::{Row as _, sqlite::SqliteRow};
use sweep_spec::{
    id::RunId,
    metric::{Metric, Point},
};

use crate::{
    error::StoreError,
    point::value_of,
    run::count,
    sqlite::{Sqlite, metric_no},
};

impl Sqlite {
    pub(crate) async fn metrics_of(&self, run: &RunId) -> Result<Vec<Metric>, StoreError> {
        let mut found = Vec::new();
        for &metric in Metric::ALL {
            let row = sqlx::query(
                "SELECT EXISTS (SELECT 1 FROM run JOIN attempt USING (run_no) \
                 JOIN point USING (attempt_no) WHERE run.id = ? AND point.metric_no = ?)",
            )
            .bind(run.as_str())
            .bind(metric_no(metric))
            .fetch_one(&self.reader)
            .await
            .map_err(|error| self.failed(error))?;
            if row.try_get(0).map_err(|error| self.failed(error))? {
                found.push(metric);
            }
        }
        Ok(found)
    }

    pub(crate) async fn curve(
        &self,
        run: &RunId,
        metric: Metric,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Point>, StoreError> {
        let rows = sqlx::query(
            "SELECT point.step, point.value, point.class FROM run \
             JOIN attempt USING (run_no) JOIN point USING (attempt_no) \
             WHERE run.id = ? AND point.metric_no = ? AND point.step > ? \
             AND point.step > attempt.lineage_after AND point.step <= attempt.lineage_until \
             ORDER BY point.step LIMIT ?",
        )
        .bind(run.as_str())
        .bind(metric_no(metric))
        .bind(after)
        .bind(limit)
        .fetch_all(&self.reader)
        .await
        .map_err(|error| self.failed(error))?;
        let read = |row: &SqliteRow| -> Result<Point, sqlx::Error> {
            let value = value_of(row.try_get(1)?, row.try_get(2)?);
            Ok(Point { metric, step: count(row.try_get(0)?), value })
        };
        rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| self.failed(error))
    }
}
