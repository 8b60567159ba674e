//! Curves: the points of one metric along a run's canonical lineage.

use sweep_spec::{
    id::RunId,
    metric::{Metric, Point},
};

use crate::{
    database::{Database, metric_no},
    error::StoreError,
    point::value_of,
    run::count,
    sql::{Row, query},
};

impl Database {
    pub(crate) async fn metrics_of(&self, run: &RunId) -> Result<Vec<Metric>, StoreError> {
        let rows = query(
            "SELECT metric_no FROM metric WHERE EXISTS (SELECT 1 FROM run JOIN attempt USING \
             (run_no) JOIN point USING (attempt_no) WHERE run.id = $1 AND point.metric_no = \
             metric.metric_no)",
        )
        .bind(run.as_str())
        .fetch_all(self.reader())
        .await
        .map_err(|error| self.failed(error))?;
        let numbers: Vec<i64> = rows
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, _>>()
            .map_err(|error| self.failed(error))?;
        let has = |metric: &&Metric| numbers.contains(&metric_no(**metric));
        Ok(Metric::ALL.iter().filter(has).copied().collect())
    }

    pub(crate) async fn curve(
        &self,
        run: &RunId,
        metric: Metric,
        after: i64,
        limit: u32,
    ) -> Result<Vec<Point>, StoreError> {
        let rows = query(
            "SELECT point.step, point.value, point.class FROM run \
             JOIN attempt USING (run_no) JOIN point USING (attempt_no) \
             WHERE run.id = $1 AND point.metric_no = $2 AND point.step > $3 \
             AND point.step > attempt.lineage_after AND point.step <= attempt.lineage_until \
             ORDER BY point.step LIMIT $4",
        )
        .bind(run.as_str())
        .bind(metric_no(metric))
        .bind(after)
        .bind(limit)
        .fetch_all(self.reader())
        .await
        .map_err(|error| self.failed(error))?;
        let read = |row: &Row| -> Result<Point, sqlx::Error> {
            let value = value_of(row.try_get(1)?, row.try_get(2)?);
            Ok(Point { metric, step: count(row.try_get(0)?), value })
        };
        rows.iter().map(read).collect::<Result<_, _>>().map_err(|error| self.failed(error))
    }
}
