//! What a scheduler loads after a start: every run and the members of every sweep.
//!
//! Rows are the dear part of it: each is passed between threads, which takes longer than reading it.
//! So a page of runs is one row, whose text has a line for each of them. Separators are control
//! characters, which no column holds.

use std::str::Split;

use sweep_spec::{
    id::{RunId, SweepId},
    run::{RunConfig, RunRole},
};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::{
    database::Database,
    error::StoreError,
    record::{Failures, LiveAttempt, Saved, SavedRun, SavedSweep},
    run::{role, run_id, state},
    sql::query,
};

/// Runs that are loaded at a time: about 3 MB of text.
const PAGE: i64 = 2000;

/// Between the columns of a line, and between lines.
const COLUMN: &str = "\u{1f}";
const LINE: &str = "\u{1e}";

/// What a scheduler needs of a run, as a line with [`COLUMN`] as `$1`.
macro_rules! saved_line {
    () => {
        "run.id || $1 || run.state || $1 || CAST(run.attempts AS TEXT) \
         || $1 || CAST(run.failures_program AS TEXT) \
         || $1 || CAST(run.failures_infrastructure AS TEXT) \
         || $1 || CAST(run.failures_without_checkpoint AS TEXT) \
         || $1 || coalesce((SELECT CAST(checkpoint.step AS TEXT) || $1 || worker.id \
             FROM checkpoint JOIN worker USING (worker_no) WHERE checkpoint.run_no = run.run_no \
             ORDER BY checkpoint.step DESC, checkpoint.attempt_no DESC LIMIT 1), $1) \
         || $1 || coalesce(worker.id, '') || $1 || coalesce(CAST(live.incarnation AS TEXT), '') \
         || $1 || coalesce(CAST(live.slot AS TEXT), '') || $1 || coalesce(live.device_name, '') \
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
                query(concat!("SELECT ", saved_line!(), " ", saved_from!(), "WHERE run.id = $2"))
                    .bind(COLUMN)
                    .bind(run.as_str())
                    .fetch_optional(self.reader())
                    .await
                    .map_err(|error| self.failed(error))?;
            if let Some(row) = row {
                let line: String = row.try_get(0).map_err(|error| self.failed(error))?;
                let mut one = saved_run(&line)?;
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
    /// parsed while the next one is fetched.
    async fn load_all_runs(&self) -> Result<Vec<SavedRun>, StoreError> {
        let failed = |error| self.failed(error);
        let mut runs = Vec::new();
        let mut parsing: Option<JoinHandle<Result<Vec<SavedRun>, StoreError>>> = None;
        let mut after: i64 = 0;
        loop {
            let page = query(concat!(
                "SELECT max(page.run_no), string_agg(page.line, $2 ORDER BY page.run_no) \
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
            let lines: String = row.try_get(1).map_err(failed)?;
            parsing = Some(spawn_blocking(move || lines.split(LINE).map(saved_run).collect()));
        }
    }

    /// The runs of a sweep in order, with what they are for.
    async fn members(&self, sweep_no: i64) -> Result<Vec<(RunId, RunRole)>, StoreError> {
        let row = query(
            "SELECT string_agg(run.id || $1 || sweep_run.role, $2 ORDER BY sweep_run.position) \
             FROM sweep_run JOIN run USING (run_no) WHERE sweep_run.sweep_no = $3",
        )
        .bind(COLUMN)
        .bind(LINE)
        .bind(sweep_no)
        .fetch_one(self.reader())
        .await
        .map_err(|error| self.failed(error))?;
        let lines: Option<String> = row.try_get(0).map_err(|error| self.failed(error))?;
        let member = |line: &str| {
            let mut columns = line.split(COLUMN);
            Ok((run_id(next(&mut columns)?.to_owned())?, role(next(&mut columns)?)?))
        };
        lines.iter().flat_map(|lines| lines.split(LINE)).map(member).collect()
    }
}

fn sweep_id(text: String) -> Result<SweepId, StoreError> {
    text.parse().map_err(|_| StoreError::Damaged { what: "sweep id", value: text })
}

/// The run of a line.
fn saved_run(line: &str) -> Result<SavedRun, StoreError> {
    let mut columns = line.split(COLUMN);
    let id = run_id(next(&mut columns)?.to_owned())?;
    let state = state(next(&mut columns)?)?;
    let attempts = number(&mut columns)?;
    let failures = Failures {
        program: number(&mut columns)?,
        infrastructure: number(&mut columns)?,
        without_checkpoint: number(&mut columns)?,
    };
    let step = next(&mut columns)?;
    let holder = next(&mut columns)?.to_owned();
    let checkpoint = if step.is_empty() { None } else { Some((parse(step)?, holder)) };
    let worker = next(&mut columns)?.to_owned();
    let live = if worker.is_empty() {
        // Nothing lives, and the three columns of what does are empty.
        for _ in 0..3 {
            next(&mut columns)?;
        }
        None
    } else {
        Some(LiveAttempt {
            worker,
            incarnation: number(&mut columns)?,
            slot: number(&mut columns)?,
            device_name: next(&mut columns)?.to_owned(),
        })
    };
    let ConfigOnly { config } = serde_json::from_str(next(&mut columns)?)
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
    })
}

fn next<'a>(columns: &mut Split<'a, &str>) -> Result<&'a str, StoreError> {
    let missing = || StoreError::Damaged { what: "run", value: "a line is cut short".to_owned() };
    columns.next().ok_or_else(missing)
}

fn number<T: std::str::FromStr>(columns: &mut Split<'_, &str>) -> Result<T, StoreError> {
    parse(next(columns)?)
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::Damaged { what: "number", value: text.to_owned() })
}
