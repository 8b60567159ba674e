//! What a scheduler loads after a start: every run, in pages that are one row each, and the members
//! of every sweep.

use sweep_spec::{
    id::{RunId, SweepId},
    run::{RunConfig, RunRole},
};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::{
    database::Database,
    error::StoreError,
    lines::{COLUMN, Columns, LINE, lines},
    record::{Failures, LiveAttempt, Saved, SavedRun, SavedSweep},
    run::{count, role, state},
    sql::query,
};

/// Runs that are loaded at a time: about 3 MB of text.
const PAGE: i64 = 2000;

/// What a scheduler needs of a run, as a line with [`COLUMN`] as `$1` and [`LINE`] as `$2`. A reason is
/// what a trainer said, and may hold them.
macro_rules! saved_line {
    () => {
        "run.id || $1 || run.state || $1 || CAST(run.attempts AS TEXT) \
         || $1 || CAST(run.failures_program AS TEXT) \
         || $1 || CAST(run.failures_infrastructure AS TEXT) \
         || $1 || CAST(run.failures_without_checkpoint AS TEXT) \
         || $1 || CASE WHEN run.paused THEN 'paused' ELSE '' END \
         || $1 || CASE WHEN run.dropped THEN 'dropped' ELSE '' END \
         || $1 || replace(replace(coalesce(run.reason, ''), $1, ' '), $2, ' ') \
         || $1 || coalesce((SELECT CAST(checkpoint.step AS TEXT) || $1 || worker.id \
             FROM checkpoint JOIN worker USING (worker_no) WHERE checkpoint.run_no = run.run_no \
             ORDER BY checkpoint.step DESC, checkpoint.attempt_no DESC LIMIT 1), $1) \
         || $1 || coalesce(worker.id, '') || $1 || coalesce(CAST(live.incarnation AS TEXT), '') \
         || $1 || coalesce(CAST(live.slot AS TEXT), '') || $1 || coalesce(live.device_name, '') \
         || $1 || coalesce(CAST(live.started_unix_ms AS TEXT), '') \
         || $1 || run.run_json"
    };
}

/// Where that comes from.
macro_rules! saved_from {
    () => {
        "FROM run LEFT JOIN attempt live ON live.run_no = run.run_no AND live.outcome IS NULL \
         LEFT JOIN worker ON worker.worker_no = live.worker_no "
    };
}

/// The part of a run's content that a scheduler needs.
#[derive(serde::Deserialize)]
struct ConfigOnly {
    config: RunConfig,
}

impl Database {
    pub(crate) async fn load(&self) -> Result<Saved, StoreError> {
        let failed = |error| self.failed(error);
        let mut saved = Saved { runs: self.load_all_runs().await?, ..Saved::default() };
        for run in saved.runs.iter_mut().filter(|run| run.config.is_trunk()) {
            self.load_checkpoints(run).await?;
        }
        let sweeps = query("SELECT sweep_no, id, cancelled FROM sweep ORDER BY sweep_no");
        for row in &sweeps.fetch_all(self.reader()).await.map_err(failed)? {
            let members = self.members(row.try_get(0).map_err(failed)?).await?;
            if !members.is_empty() {
                let id = sweep_id(row.try_get(1).map_err(failed)?)?;
                let cancelled = row.try_get(2).map_err(failed)?;
                saved.sweeps.push(SavedSweep { id, cancelled, members });
            }
        }
        Ok(saved)
    }

    pub(crate) async fn load_runs(&self, runs: &[RunId]) -> Result<Vec<SavedRun>, StoreError> {
        let mut saved = Vec::with_capacity(runs.len());
        for run in runs {
            let row =
                query(concat!("SELECT ", saved_line!(), " ", saved_from!(), "WHERE run.id = $3"))
                    .bind(COLUMN)
                    .bind(LINE)
                    .bind(run.as_str())
                    .fetch_optional(self.reader())
                    .await
                    .map_err(|error| self.failed(error))?;
            if let Some(row) = row {
                let line: String = row.try_get(0).map_err(|error| self.failed(error))?;
                let mut one = saved_run(Columns::of(&line))?;
                if one.config.is_trunk() {
                    self.load_checkpoints(&mut one).await?;
                }
                saved.push(one);
            }
        }
        Ok(saved)
    }

    /// Where the checkpoints of a trunk lie.
    async fn load_checkpoints(&self, trunk: &mut SavedRun) -> Result<(), StoreError> {
        trunk.checkpoints = self.checkpoint_holders(&trunk.id).await?;
        trunk.kept = self.kept_steps(&trunk.id).await?;
        Ok(())
    }

    /// Every run, in pages: the texts of all at once would be most of the memory of a start. A page is
    /// parsed, and put in order, while the next one is fetched: a database that is asked for lines in
    /// order copies each of them twice more.
    async fn load_all_runs(&self) -> Result<Vec<SavedRun>, StoreError> {
        let failed = |error| self.failed(error);
        let known = query("SELECT count(*) FROM run").fetch_one(self.reader()).await;
        let known = known.and_then(|row| row.try_get(0)).map_err(failed)?;
        // Once and for all: growing would copy every run a few times.
        let mut runs = Vec::with_capacity(usize::try_from(count(known)).unwrap_or(0));
        let mut parsing: Option<JoinHandle<Result<Vec<SavedRun>, StoreError>>> = None;
        let mut after: i64 = 0;
        loop {
            let page = query(concat!(
                "SELECT max(page.run_no), \
                 string_agg(CAST(page.run_no AS TEXT) || $1 || page.line, $2) \
                 FROM (SELECT run.run_no, ",
                saved_line!(),
                " AS line ",
                saved_from!(),
                "WHERE run.run_no > $3 ORDER BY run.run_no LIMIT $4) page"
            ));
            let page = page.bind(COLUMN).bind(LINE).bind(after).bind(PAGE);
            let row = page.fetch_one(self.reader()).await.map_err(failed)?;
            if let Some(parsed) = parsing.take() {
                runs.extend(parsed.await.expect("a parser does not panic")?);
            }
            let Some(last) = row.try_get(0).map_err(failed)? else { return Ok(runs) };
            after = last;
            let page: Option<String> = row.try_get(1).map_err(failed)?;
            parsing = Some(spawn_blocking(move || in_order(page.as_deref(), saved_run)));
        }
    }

    /// The runs of a sweep in order, with what they are for.
    async fn members(&self, sweep_no: i64) -> Result<Vec<(RunId, RunRole)>, StoreError> {
        let row = query(
            "SELECT string_agg(CAST(sweep_run.position AS TEXT) || $1 || run.id || $1 \
             || sweep_run.role, $2) FROM sweep_run JOIN run USING (run_no) \
             WHERE sweep_run.sweep_no = $3",
        )
        .bind(COLUMN)
        .bind(LINE)
        .bind(sweep_no)
        .fetch_one(self.reader())
        .await
        .map_err(|error| self.failed(error))?;
        let members: Option<String> = row.try_get(0).map_err(|error| self.failed(error))?;
        let member = |mut columns: Columns<'_>| Ok((columns.value()?, role(columns.text()?)?));
        in_order(members.as_deref(), member)
    }
}

/// What lines say, in the order of the number that each of them begins with.
fn in_order<T>(
    text: Option<&str>,
    read: impl Fn(Columns<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let numbered = |mut columns: Columns<'_>| -> Result<(i64, T), StoreError> {
        Ok((columns.value()?, read(columns)?))
    };
    let mut all: Vec<(i64, T)> = lines(text).map(numbered).collect::<Result<_, _>>()?;
    all.sort_by_key(|&(number, _)| number);
    Ok(all.into_iter().map(|(_, one)| one).collect())
}

fn sweep_id(text: String) -> Result<SweepId, StoreError> {
    text.parse().map_err(|_| StoreError::Damaged { what: "sweep id", value: text })
}

/// The run of a line.
fn saved_run(mut columns: Columns<'_>) -> Result<SavedRun, StoreError> {
    let id = columns.value()?;
    let state = state(columns.text()?)?;
    let attempts = columns.value()?;
    let failures = Failures {
        program: columns.value()?,
        infrastructure: columns.value()?,
        without_checkpoint: columns.value()?,
    };
    let paused = !columns.text()?.is_empty();
    let dropped = !columns.text()?.is_empty();
    let reason = Some(columns.text()?).filter(|reason| !reason.is_empty()).map(str::to_owned);
    let (step, holder) = (columns.optional()?, columns.text()?.to_owned());
    let checkpoint = step.map(|step| (step, holder));
    let worker = columns.text()?.to_owned();
    let live = if worker.is_empty() {
        // Nothing lives, and the four columns of what does are empty.
        for _ in 0..4 {
            columns.text()?;
        }
        None
    } else {
        Some(LiveAttempt {
            worker,
            incarnation: columns.value()?,
            slot: columns.value()?,
            device_name: columns.text()?.to_owned(),
            started_unix_ms: columns.value()?,
        })
    };
    let ConfigOnly { config } = serde_json::from_str(columns.text()?)
        .map_err(|error| StoreError::Damaged { what: "run", value: error.to_string() })?;
    Ok(SavedRun {
        id,
        state,
        attempts,
        config,
        failures,
        checkpoint,
        checkpoints: Vec::new(),
        kept: Vec::new(),
        live,
        reason,
        paused,
        dropped,
    })
}
