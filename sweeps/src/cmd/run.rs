//! `sweep run`: a whole sweep on this machine. Coordinator and store live in this process, the
//! worker is a child; the forecast of each check is written down when the grid has ended. The same
//! command goes on where it was stopped and repeats no finished run.

use std::path::PathBuf;

use sweep_fit::Fit;
use sweep_proto::{client::Control, v1};
use sweep_spec::{
    metric::Metric,
    plan::{DeviceKind, Plan},
    run::RunRole,
    units::si,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    client::{connect, refused},
    cmd::watch,
    console::{Console, Format},
    exit::{Exit, Failure, OrExit as _},
    forecast::{self, Checked},
    law,
    limit::Limit,
    local::{coordinator::LocalCoordinator, worker::LocalWorker},
    machine,
    output::{self, fit_table, plan::Rows},
    outputs::{OutFolder, json},
    page::Telling,
    progress::{Progress, Weights},
    recipe_file::Prepared,
    results::{self, Asked, SweepResults},
    speed, submission, texts,
};

/// Arguments of `sweep run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The recipe
    recipe: PathBuf,
    /// Where everything is written [default: sweep-out/NAME]
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Runs trained at a time [default: one per core]
    #[arg(long, value_name = "N")]
    slots: Option<u32>,
    /// Devices of the worker: auto, cpu, vulkan, cuda, or one id [default: auto]
    #[arg(long)]
    device: Option<String>,
    /// Train every run with this seed instead of the recipe's; repeats
    #[arg(long = "seed", value_name = "SEED")]
    seeds: Vec<u64>,
    /// Queue runs again that failed before
    #[arg(long)]
    retry: bool,
    /// Keep the store in the folder also where that lies on a network file system
    #[arg(long)]
    allow_network_filesystem: bool,
    #[command(flatten)]
    limit: Limit,
}

/// Trains, fits, draws and reports.
pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let prepared = Prepared::load(&args.recipe, &args.seeds)?;
    let kind = machine::processor(args.slots);
    let plan = prepared.plan(&speed::load(), std::slice::from_ref(&kind))?;
    if console.format != Format::Quiet {
        output::plan::print(&plan, Rows::Folded, console.err)?;
    }
    args.limit.hold(&plan)?;
    let default = PathBuf::from("sweep-out").join(&prepared.recipe.name);
    let folder = OutFolder::create(args.out.as_deref().unwrap_or(&default))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // The coordinator waits for the disk; the cores belong to the trainers.
        .worker_threads(2)
        .enable_all()
        .build()
        .or_exit(Exit::Failed)?;
    let job = Job { args, prepared, plan, kind, folder };
    let result = runtime.block_on(job.run(console));
    // A watcher of the store must not hold up the end.
    runtime.shutdown_background();
    result
}

struct Job<'a> {
    args: &'a Args,
    prepared: Prepared,
    plan: Plan,
    kind: DeviceKind,
    folder: OutFolder,
}

/// How the training ended.
enum Trained {
    /// Every run has ended.
    Done,
    /// A signal came.
    Interrupted,
}

impl Job<'_> {
    async fn run(&self, console: &mut Console<'_>) -> Result<Exit, Failure> {
        let coordinator =
            LocalCoordinator::start(&self.folder.state(), self.args.allow_network_filesystem)
                .await?;
        let mut control = connect(coordinator.access()).await?;
        let outcome = self.sweep(&mut control, &coordinator, console).await;
        drop(control);
        let stopped = coordinator.stop().await;
        let exit = outcome?;
        stopped?;
        Ok(exit)
    }

    async fn sweep(
        &self,
        control: &mut Control,
        coordinator: &LocalCoordinator,
        console: &mut Console<'_>,
    ) -> Result<Exit, Failure> {
        // No check is trained before its forecast is written down.
        let policy = v1::SweepPolicy { checks_held: true, ..self.args.limit.terms() };
        let reply = submission::submit(control, &self.prepared, &self.plan, true, policy).await?;
        console.say(submission::summary(&reply))?;
        // Whoever runs a paused sweep again wants it to go on.
        let resume = v1::UpdateSweepRequest { paused: Some(false), ..Default::default() };
        submission::update(control, &reply.sweep_id, resume).await?;
        if reply.runs_failed > 0 {
            self.retry(control, &reply, console).await?;
        }
        // Nothing to train: results are written anew, and no device is woken.
        let trained = if reply.runs_new == 0 && reply.runs_known == 0 {
            self.train(control, &reply.sweep_id, console).await
        } else {
            self.train_with_worker(control, coordinator, &reply.sweep_id, console).await
        };
        match trained? {
            Trained::Interrupted => {
                console.say(format_args!("stopped; go on with: {}", self.command()))?;
                Ok(Exit::Interrupted)
            }
            Trained::Done => {
                self.keep_speeds(control).await?;
                self.finish(control, &reply.sweep_id, console).await
            }
        }
    }

    /// Follows the sweep while a worker of our own trains it; ends with the worker at rest.
    async fn train_with_worker(
        &self,
        control: &mut Control,
        coordinator: &LocalCoordinator,
        sweep: &str,
        console: &mut Console<'_>,
    ) -> Result<Trained, Failure> {
        let (state, device) = (self.folder.state(), self.args.device.as_deref());
        let access = coordinator.access_path();
        let mut worker = LocalWorker::start(access, &state, self.args.slots, device)?;
        let trained = tokio::select! {
            trained = self.train(control, sweep, console) => trained,
            failure = worker.failed() => Err(failure),
            signal = interrupted() => signal.map(|()| Trained::Interrupted),
        };
        if matches!(trained, Ok(Trained::Interrupted)) {
            console.say("stopping: every run in training writes a checkpoint; again to kill")?;
        }
        tokio::select! {
            _ = worker.drain() => {}
            _ = interrupted() => console.say("killed; runs go on from their last checkpoints")?,
        }
        trained
    }

    /// The command that goes on with this sweep.
    fn command(&self) -> String {
        let mut command = vec![format!("sweep run {}", self.args.recipe.display())];
        command.extend(self.args.out.as_ref().map(|out| format!("--out {}", out.display())));
        command.extend(self.args.seeds.iter().map(|seed| format!("--seed {seed}")));
        command.extend(self.args.slots.map(|slots| format!("--slots {slots}")));
        command.extend(self.args.device.as_ref().map(|device| format!("--device {device}")));
        let allowed = self.args.allow_network_filesystem;
        command.extend(allowed.then(|| "--allow-network-filesystem".to_owned()));
        command.join(" ")
    }

    async fn retry(
        &self,
        control: &mut Control,
        reply: &v1::SubmitSweepReply,
        console: &mut Console<'_>,
    ) -> Result<(), Failure> {
        if !self.args.retry {
            let failed = reply.runs_failed;
            console.say(format_args!("{failed} runs failed before; hint: --retry queues them"))?;
            return Ok(());
        }
        let request = v1::RetryRunsRequest { sweep: reply.sweep_id.clone(), runs: Vec::new() };
        let queued = control.retry_runs(request).await.map_err(refused)?.into_inner().runs_queued;
        console.say(format_args!("{queued} failed runs queued again"))?;
        Ok(())
    }

    /// Follows the sweep to its end, and forecasts the checks when the grid has ended.
    async fn train(
        &self,
        control: &mut Control,
        sweep: &str,
        console: &mut Console<'_>,
    ) -> Result<Trained, Failure> {
        let mut progress = Progress::new(self.weights());
        if self.plan.totals.checks > 0 {
            let mut until = |progress: &Progress| progress.role_ended(v1::RunRole::Fit);
            watch::follow(control, sweep, &mut progress, console, &mut until).await?;
            if progress.held_back().is_none() {
                self.forecast(control, sweep, console).await?;
                let release =
                    v1::UpdateSweepRequest { checks_held: Some(false), ..Default::default() };
                submission::update(control, sweep, release).await?;
            }
        }
        if !progress.is_done() && progress.held_back().is_none() {
            watch::follow(control, sweep, &mut progress, console, &mut |_| false).await?;
        }
        match progress.held_back() {
            None => Ok(Trained::Done),
            Some(reason) => Err(Failure::message(
                Exit::OverBudget,
                format!("nothing more is trained: {reason}; hint: `{}` goes on", self.command()),
            )),
        }
    }

    fn weights(&self) -> Weights {
        let images = self.plan.data.image.is_some();
        let mut weights = Weights { images, ..Weights::default() };
        for run in &self.plan.runs {
            // Without a prediction the FLOPs weigh: for all runs or for none, the kind is one.
            let seconds = run.seconds.first().copied().flatten().map(|p| p.seconds);
            let id = run.id.to_string();
            weights.seconds.insert(id.clone(), seconds.unwrap_or(run.own_flops));
            if let Some(edge) = &run.parent {
                weights.first_steps.insert(id.clone(), edge.step);
            }
            let trunk = if run.role == RunRole::Trunk { "trunk " } else { "" };
            let rate = match run.role {
                RunRole::Sensitivity => format!(" rate {:.2e}", run.learning_rate),
                _ => String::new(),
            };
            #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
            let label = format!(
                "{trunk}{} N {} D {}{rate}",
                run.id.short(),
                si(run.parameters.total as f64),
                si(run.tokens as f64)
            );
            weights.labels.insert(id, label);
        }
        weights
    }

    /// Writes the forecasts down and prints them, once. A forecast that is there is kept: it was
    /// made before its check was trained.
    async fn forecast(
        &self,
        control: &mut Control,
        sweep: &str,
        console: &mut Console<'_>,
    ) -> Result<(), Failure> {
        let results = results::fetch(control, sweep, Asked::NONE).await?;
        let fit = match law::fit(&results) {
            Ok(fit) => fit,
            Err(failure) => {
                console.say(format_args!("no forecast: {failure}"))?;
                return Ok(());
            }
        };
        let file = forecast::forecast(&results, &fit);
        let name = forecast::file_name(&file);
        if !self.folder.root().join(&name).exists() {
            self.folder.write(&name, &json(&file)?)?;
        }
        for check in &file.checks {
            console.say(check.line())?;
        }
        console.say(format_args!("forecast kept in {name}, hash {}", &file.hash[..16]))?;
        Ok(())
    }

    /// Keeps what was measured for the next plan.
    async fn keep_speeds(&self, control: &mut Control) -> Result<(), Failure> {
        let reply = control.get_cost_model(v1::GetCostModelRequest {}).await.map_err(refused)?;
        let mut cost = speed::load();
        cost.merge(
            &serde_json::from_str(&reply.into_inner().cost_model_json).or_exit(Exit::Failed)?,
        );
        // The next estimate is worse without it; the sweep is not.
        if let Err(error) = speed::save(&cost) {
            tracing::warn!(%error, "measured speeds are not kept");
        }
        Ok(())
    }

    async fn finish(
        &self,
        control: &mut Control,
        sweep: &str,
        console: &mut Console<'_>,
    ) -> Result<Exit, Failure> {
        let asked = Asked::drawn(Metric::ALL).and_attempts();
        let mut results = results::fetch(control, sweep, asked).await?;
        let checkpoints = LocalWorker::checkpoints(&self.folder.state());
        if results.is_diffusion() {
            for line in results.read_samples(&checkpoints) {
                console.say(format_args!("samples are left out: {line}"))?;
            }
        }
        let (input, fit) = law::plot_input(&results);
        let (texts, failed) =
            texts::collect(&results, &["--checkpoints".into(), checkpoints.into()]);
        for reason in failed {
            console.say(reason)?;
        }
        let telling = Telling { texts, fit_refused: fit.as_ref().err().map(ToString::to_string) };
        self.folder.write_results(&results, &input, fit.as_ref().ok(), &telling)?;
        let mut points = self.folder.points()?;
        let mut sink = |run: &str, metric, part: &[(u64, f64)]| points.part(run, metric, part);
        results::stream(control, &results, &mut sink).await?;
        points.end()?;
        for (run, why) in results.left_out() {
            console.say(format_args!("run {} gives no observation: {why}", run.label()))?;
        }
        let forecast = fit.as_ref().ok().map(|fit| forecast::forecast(&results, fit));
        let checks =
            forecast.as_ref().map_or_else(Vec::new, |file| forecast::measured(&results, file));
        self.print(console, &results, &fit, &checks)?;
        console
            .say(format_args!("report: {}", self.folder.root().join("report.html").display()))?;
        match fit {
            Err(failure) => Err(failure),
            Ok(_) if results.failed() > 0 => Ok(Exit::Failed),
            Ok(_) => Ok(Exit::Done),
        }
    }

    fn print(
        &self,
        console: &mut Console<'_>,
        results: &SweepResults,
        fit: &Result<Fit, Failure>,
        checks: &[Checked],
    ) -> Result<(), Failure> {
        match console.format {
            Format::Quiet => writeln!(console.out, "{}", results.id)?,
            Format::Json => console.json(&serde_json::json!({
                "schema": "sweep.result/1",
                "sweep": results.id,
                "name": results.name,
                "out": self.folder.root(),
                "device": self.kind.name,
                "runs": results.runs.len(),
                "failed": results.failed(),
                "fit": fit.as_ref().ok(),
                "checks": checks,
            }))?,
            Format::Table => {
                if let Ok(fit) = fit {
                    fit_table::print(fit, console.out).or_exit(Exit::Failed)?;
                }
                for check in checks {
                    writeln!(console.out, "{}", check.line())?;
                }
            }
        }
        Ok(())
    }
}

/// Waits for SIGINT or SIGTERM.
async fn interrupted() -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).or_exit(Exit::Failed)?;
    tokio::select! {
        signal = tokio::signal::ctrl_c() => signal.or_exit(Exit::Failed),
        _ = terminate.recv() => Ok(()),
    }
}
