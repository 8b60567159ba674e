//! What must hold in every store, whatever happened to it: each check names what breaks it.
//!
//! Reads only, so that it may run beside a coordinator; what it sees is one moment of each check.

use sweep_spec::{metric::Metric, run::Run};

use crate::{
    database::{Database, metric_no},
    error::StoreError,
    record::Facts,
    run::read_facts,
    sql::{Pool, Query, Row, query},
};

/// Examples of one check at most.
const EXAMPLES_MAX: usize = 10;

/// Runs that are read at a time: about 3 MB.
const PAGE: i64 = 1000;

/// One check and what it found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Name of the check.
    pub check: &'static str,
    /// What must hold.
    pub rule: &'static str,
    /// What breaks it, the first of them; empty when all is well.
    pub broken: Vec<String>,
    /// Whether there is more.
    pub more: bool,
}

/// Checks that one statement makes: it selects what breaks the rule, by name.
const STATEMENTS: &[(&str, &str, &str)] = &[
    (
        "live-attempts",
        "a running run has one live attempt, its last; no other run has any",
        "SELECT run.id AS what FROM run \
         LEFT JOIN attempt live ON live.run_no = run.run_no AND live.outcome IS NULL \
         WHERE (run.state = 'running') <> (live.attempt_no IS NOT NULL) \
         OR live.number <> run.attempts LIMIT 11",
    ),
    (
        "attempt-numbers",
        "the attempts of a run are numbered from 1 to its last without a gap",
        "SELECT run.id AS what FROM run LEFT JOIN \
         (SELECT run_no, count(*) AS made, max(number) AS last FROM attempt GROUP BY run_no) made \
         ON made.run_no = run.run_no WHERE coalesce(made.made, 0) <> run.attempts \
         OR coalesce(made.last, 0) <> run.attempts LIMIT 11",
    ),
    (
        "outcomes",
        "a finished or diverged run ended so in its last attempt, or diverged with its trunk",
        "SELECT run.id AS what FROM run \
         LEFT JOIN attempt last ON last.run_no = run.run_no AND last.number = run.attempts \
         WHERE run.state IN ('finished', 'diverged') \
         AND (last.outcome IS NULL OR last.outcome <> run.state) \
         AND NOT (run.state = 'diverged' AND run.parent_run IS NOT NULL) LIMIT 11",
    ),
    (
        "budgets",
        "a run has no more failures than attempts that ended",
        "SELECT run.id AS what FROM run \
         WHERE run.failures_program + run.failures_infrastructure > \
         (SELECT count(*) FROM attempt \
          WHERE attempt.run_no = run.run_no AND attempt.outcome IS NOT NULL) LIMIT 11",
    ),
    (
        "lineage",
        "each step of a curve belongs to one attempt",
        "SELECT run.id || ' attempts ' || earlier.number || ' and ' || later.number AS what \
         FROM attempt earlier \
         JOIN attempt later ON later.run_no = earlier.run_no AND later.number > earlier.number \
         JOIN run ON run.run_no = earlier.run_no \
         WHERE later.resume_step IS NOT NULL \
         AND earlier.lineage_until > earlier.lineage_after \
         AND later.lineage_until > later.lineage_after \
         AND earlier.lineage_until > later.lineage_after \
         AND later.lineage_until > earlier.lineage_after LIMIT 11",
    ),
    (
        "resume-steps",
        "an attempt owns the steps beyond the one it resumed from",
        "SELECT run.id || ' attempt ' || attempt.number AS what \
         FROM attempt JOIN run ON run.run_no = attempt.run_no WHERE attempt.lineage_after <> \
         CASE WHEN coalesce(attempt.resume_step, 0) = 0 THEN -1 ELSE attempt.resume_step END \
         LIMIT 11",
    ),
    (
        "resume-checkpoints",
        "an attempt resumed from the beginning, a checkpoint on its worker, or the parent",
        "SELECT run.id || ' attempt ' || attempt.number AS what \
         FROM attempt JOIN run ON run.run_no = attempt.run_no \
         WHERE attempt.resume_step > 0 AND run.run_json NOT LIKE '%\"parent\":%' AND NOT EXISTS \
         (SELECT 1 FROM checkpoint WHERE checkpoint.run_no = attempt.run_no \
          AND checkpoint.worker_no = attempt.worker_no \
          AND checkpoint.step = attempt.resume_step) AND NOT EXISTS \
         (SELECT 1 FROM checkpoint_copy copy WHERE copy.run_no = attempt.run_no \
          AND copy.worker_no = attempt.worker_no AND copy.step = attempt.resume_step) LIMIT 11",
    ),
    (
        "point-owners",
        "every point belongs to an attempt and a metric",
        "SELECT 'attempt_no ' || lost.attempt_no || ' metric_no ' || lost.metric_no AS what \
         FROM (SELECT DISTINCT attempt_no, metric_no FROM point) lost \
         WHERE NOT EXISTS (SELECT 1 FROM attempt WHERE attempt.attempt_no = lost.attempt_no) \
         OR NOT EXISTS (SELECT 1 FROM metric WHERE metric.metric_no = lost.metric_no) LIMIT 11",
    ),
    (
        "point-batches",
        "an attempt with points has a last durable batch",
        "SELECT run.id || ' attempt ' || attempt.number AS what \
         FROM attempt JOIN run ON run.run_no = attempt.run_no \
         LEFT JOIN ingest_cursor ON ingest_cursor.attempt_no = attempt.attempt_no \
         WHERE (ingest_cursor.last_seq IS NULL OR ingest_cursor.last_seq < 1) AND EXISTS \
         (SELECT 1 FROM point WHERE point.attempt_no = attempt.attempt_no) LIMIT 11",
    ),
    (
        "point-steps",
        "no attempt has a point at or before the step it resumed from",
        "SELECT run.id || ' attempt ' || attempt.number AS what \
         FROM attempt JOIN run ON run.run_no = attempt.run_no \
         WHERE attempt.resume_step > 0 AND EXISTS (SELECT 1 FROM point \
          WHERE point.attempt_no = attempt.attempt_no AND point.step <= attempt.resume_step) \
         LIMIT 11",
    ),
    (
        "point-values",
        "a point has a value exactly where its class says finite",
        "SELECT 'attempt_no ' || attempt_no || ' metric_no ' || metric_no || ' step ' || step \
         AS what FROM point WHERE (class = 0) <> (value IS NOT NULL) LIMIT 11",
    ),
    (
        "checkpoints",
        "a checkpoint was written by an attempt of its run, beyond the step that one resumed from",
        "SELECT run.id || ' step ' || checkpoint.step AS what \
         FROM checkpoint JOIN run ON run.run_no = checkpoint.run_no \
         LEFT JOIN attempt ON attempt.attempt_no = checkpoint.attempt_no \
         WHERE attempt.run_no IS NULL OR attempt.run_no <> checkpoint.run_no \
         OR checkpoint.step < coalesce(attempt.resume_step, 0) LIMIT 11",
    ),
];

impl Database {
    /// Makes every check.
    ///
    /// # Errors
    /// [`StoreError`] when the database cannot be read at all.
    pub async fn doctor(&self) -> Result<Vec<Finding>, StoreError> {
        let mut findings = self.whole().await?;
        for &(check, rule, statement) in STATEMENTS {
            let rows = self.rows(query(statement)).await?;
            let broken = rows.iter().map(|row| row.try_get("what"));
            let broken = broken.collect::<Result<_, _>>().map_err(|error| self.failed(error))?;
            findings.push(finding(check, rule, broken));
        }
        findings.push(self.metric_names().await?);
        findings.extend(self.identities().await?);
        Ok(findings)
    }

    async fn rows(&self, query: Query) -> Result<Vec<Row>, StoreError> {
        query.fetch_all(self.reader()).await.map_err(|error| self.failed(error))
    }

    /// What a database checks of itself. Postgres holds its keys at every write, and checks its
    /// pages as it reads them.
    async fn whole(&self) -> Result<Vec<Finding>, StoreError> {
        if let Pool::Postgres(_) = self.reader() {
            let rows = self.rows(query("SELECT CAST(count(*) AS BIGINT) FROM coordinator")).await?;
            let count: i64 = rows[0].try_get(0).map_err(|error| self.failed(error))?;
            let broken = if count == 1 { Vec::new() } else { vec![format!("{count} rows")] };
            return Ok(vec![finding("epoch", "there is one epoch of the coordinator", broken)]);
        }
        let rows = self.rows(query("PRAGMA integrity_check")).await?;
        let lines = rows.iter().map(|row| row.try_get::<String>(0)).collect::<Result<Vec<_>, _>>();
        let mut lines = lines.map_err(|error| self.failed(error))?;
        lines.retain(|line| line != "ok");
        let pages = finding("pages", "the file is whole", lines);
        let rows =
            self.rows(query("SELECT \"table\", parent FROM pragma_foreign_key_check")).await?;
        let broken = rows.iter().map(|row| {
            Ok(format!("{} refers to a {} that is not there", text(row, 0)?, text(row, 1)?))
        });
        let broken = broken.collect::<Result<_, _>>().map_err(|error| self.failed(error))?;
        Ok(vec![pages, finding("keys", "what a row refers to is there", broken)])
    }

    async fn metric_names(&self) -> Result<Finding, StoreError> {
        let rows = self.rows(query("SELECT metric_no, name FROM metric")).await?;
        let mut broken = Vec::new();
        for row in &rows {
            let read = || Ok((row.try_get::<i64>(0)?, text(row, 1)?));
            let (number, name) = read().map_err(|error| self.failed(error))?;
            let known = Metric::ALL.iter().find(|&&metric| metric_no(metric) == number);
            if known.is_none_or(|metric| metric.name() != name) {
                broken.push(format!("{number} is called {name}"));
            }
        }
        Ok(finding("metrics", "a metric's number means what it meant", broken))
    }

    /// Runs against the hash that names them and the columns that were made of them.
    async fn identities(&self) -> Result<[Finding; 2], StoreError> {
        let (mut ids, mut facts) = (Vec::new(), Vec::new());
        let mut after: i64 = 0;
        loop {
            let page = query("SELECT * FROM run WHERE run_no > $1 ORDER BY run_no LIMIT $2");
            let rows = self.rows(page.bind(after).bind(PAGE)).await?;
            for row in &rows {
                let failed = |error| self.failed(error);
                after = row.try_get("run_no").map_err(failed)?;
                let id: String = row.try_get("id").map_err(failed)?;
                let json: String = row.try_get("run_json").map_err(failed)?;
                match serde_json::from_str::<Run>(&json) {
                    Ok(run) if run.config.id().as_str() == id => {
                        if read_facts(row).map_err(failed)? != Facts::of(&run) {
                            facts.push(id);
                        }
                    }
                    _ => ids.push(id),
                }
            }
            if rows.is_empty() {
                return Ok([
                    finding("identities", "a run's id is the hash of its content", ids),
                    finding("facts", "a run's columns say what its content says", facts),
                ]);
            }
        }
    }
}

fn text(row: &Row, place: usize) -> Result<String, sqlx::Error> {
    row.try_get(place)
}

fn finding(check: &'static str, rule: &'static str, mut broken: Vec<String>) -> Finding {
    let more = broken.len() > EXAMPLES_MAX;
    broken.truncate(EXAMPLES_MAX);
    Finding { check, rule, broken, more }
}
