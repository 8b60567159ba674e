//! Progress of a sweep while it is trained: bars on a terminal, else a line every ten seconds.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use sweep_proto::v1;
use sweep_spec::units::si;

use crate::output::table::duration;

/// How often a line is printed where bars cannot be drawn.
pub(crate) const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Parts of the overall bar; a bar moves visibly at each.
const BAR_PARTS: u64 = 1000;

/// What is known beforehand of each run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Weights {
    /// Predicted seconds of each run; runs that are not in it weigh as one.
    pub(crate) seconds: HashMap<String, f64>,
    /// Of branches, the step at which they leave their trunk.
    pub(crate) first_steps: HashMap<String, u64>,
    /// A name for people.
    pub(crate) labels: HashMap<String, String>,
    /// D counts images, not tokens.
    pub(crate) images: bool,
}

impl Weights {
    /// A speed with its unit.
    fn speed(&self, a_second: f64) -> String {
        format!("{} {}/s", si(a_second), if self.images { "images" } else { "tokens" })
    }
}

/// The state of a sweep as its coordinator tells it.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    runs: BTreeMap<String, v1::RunProgress>,
    latest: v1::SweepProgress,
    weights: Weights,
}

impl Progress {
    /// Nothing known yet.
    pub(crate) fn new(weights: Weights) -> Self {
        Self { weights, ..Self::default() }
    }

    /// Takes in a message.
    pub(crate) fn update(&mut self, message: v1::SweepProgress) {
        for run in &message.runs {
            self.runs.insert(run.run_id.clone(), run.clone());
        }
        self.latest = v1::SweepProgress { runs: Vec::new(), ..message };
    }

    /// Whether every run of this role has ended, and there is one.
    #[cfg(feature = "local")]
    pub(crate) fn role_ended(&self, role: v1::RunRole) -> bool {
        let mut of_role = self.runs.values().filter(|run| run.role() == role).peekable();
        of_role.peek().is_some() && of_role.all(|run| is_ended(run.state()))
    }

    /// Whether every run has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.latest.done
    }

    /// Why nothing more is trained under the terms of the sweep, if so.
    pub(crate) fn held_back(&self) -> Option<&str> {
        self.latest.held_back.as_deref()
    }

    /// Runs that ended without being finished.
    pub(crate) fn failed(&self) -> u32 {
        let counts = self.latest.counts.unwrap_or_default();
        counts.failed + counts.diverged + counts.cancelled
    }

    /// Share of the work that is done, from 0 to 1.
    pub(crate) fn share(&self) -> f64 {
        let mut done = 0.0;
        let mut all = 0.0;
        for run in self.runs.values() {
            let weight = self.weights.seconds.get(&run.run_id).copied().unwrap_or(1.0);
            all += weight;
            done += weight * self.share_of(run);
        }
        if all > 0.0 { done / all } else { 0.0 }
    }

    /// Share of a run's own steps that is done.
    fn share_of(&self, run: &v1::RunProgress) -> f64 {
        let first = self.weights.first_steps.get(&run.run_id).copied().unwrap_or(0);
        share_of(run, first)
    }

    /// Runs in training.
    fn running(&self) -> impl Iterator<Item = &v1::RunProgress> {
        self.runs.values().filter(|run| run.state() == v1::RunState::Running)
    }

    /// The state in a line.
    pub(crate) fn line(&self) -> String {
        let counts = self.latest.counts.unwrap_or_default();
        let all = self.runs.len();
        let mut parts = vec![format!("{} of {all} runs finished", counts.finished)];
        for (count, what) in [
            (counts.running, "running"),
            (counts.queued, "queued"),
            (counts.diverged, "diverged"),
            (counts.failed, "failed"),
            (counts.cancelled, "cancelled"),
        ] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        let mut line = vec![parts.join(", "), format!("{:.0} %", 100.0 * self.share())];
        if self.latest.tokens_per_second > 0.0 {
            line.push(self.weights.speed(self.latest.tokens_per_second));
        }
        if let Some(seconds) = self.latest.remaining_seconds.filter(|_| !self.latest.done) {
            line.push(format!("about {} left", duration(seconds)));
        }
        line.join(" · ")
    }

    /// One run in a line.
    fn run_line(&self, run: &v1::RunProgress) -> String {
        let label = self.weights.labels.get(&run.run_id).map_or(&run.run_id[..8], String::as_str);
        let mut line = vec![label.to_owned()];
        line.extend(run.tokens_per_second.map(|speed| self.weights.speed(speed)));
        line.extend(run.latest_loss.map(|loss| format!("loss {loss:.4}")));
        line.join(" · ")
    }
}

/// Share of the steps after `first` that are done.
fn share_of(run: &v1::RunProgress, first: u64) -> f64 {
    if is_ended(run.state()) {
        return 1.0;
    }
    let (done, own) = (run.step.saturating_sub(first), run.steps.saturating_sub(first));
    #[expect(clippy::cast_precision_loss, reason = "step counts are below 2^53")]
    let share = done as f64 / own.max(1) as f64;
    share.min(1.0)
}

/// Whether nothing more happens to a run.
pub(crate) const fn is_ended(state: v1::RunState) -> bool {
    matches!(
        state,
        v1::RunState::Finished
            | v1::RunState::Diverged
            | v1::RunState::Failed
            | v1::RunState::Cancelled
    )
}

/// Bars for a whole sweep and for each run in training.
pub(crate) struct Bars {
    all: MultiProgress,
    overall: ProgressBar,
    slots: Vec<ProgressBar>,
}

impl Bars {
    /// Bars on stderr, or `None` where they cannot be drawn.
    pub(crate) fn on_terminal(terminal: bool) -> Option<Self> {
        if !terminal {
            return None;
        }
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let overall = all.add(ProgressBar::new(BAR_PARTS).with_style(style("{bar:30} {msg}")));
        Some(Self { all, overall, slots: Vec::new() })
    }

    /// Draws the state.
    pub(crate) fn draw(&mut self, progress: &Progress) {
        self.overall.set_position(parts(progress.share()));
        self.overall.set_message(progress.line());
        let running: Vec<&v1::RunProgress> = progress.running().collect();
        while self.slots.len() < running.len() {
            let bar = ProgressBar::new(BAR_PARTS).with_style(style("  {bar:20} {msg}"));
            self.slots.push(self.all.add(bar));
        }
        for (place, bar) in self.slots.iter().enumerate() {
            match running.get(place) {
                Some(run) => {
                    bar.set_position(parts(progress.share_of(run)));
                    bar.set_message(progress.run_line(run));
                }
                None => {
                    bar.set_position(0);
                    bar.set_message("idle");
                }
            }
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        for bar in &self.slots {
            bar.finish_and_clear();
        }
        self.overall.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the template is a constant")
        .progress_chars("=> ")
}

fn parts(share: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "0 to 1000"
    )]
    let parts = (share.clamp(0.0, 1.0) * BAR_PARTS as f64) as u64;
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(id: &str, role: v1::RunRole, state: v1::RunState, step: u64) -> v1::RunProgress {
        v1::RunProgress {
            run_id: id.to_owned(),
            role: role.into(),
            state: state.into(),
            step,
            steps: 100,
            ..v1::RunProgress::default()
        }
    }

    #[test]
    fn work_counts_by_predicted_seconds() {
        let seconds = HashMap::from([("a".to_owned(), 30.0), ("b".to_owned(), 10.0)]);
        let mut progress = Progress::new(Weights { seconds, ..Weights::default() });
        let message = v1::SweepProgress {
            runs: vec![
                run("a", v1::RunRole::Fit, v1::RunState::Running, 50),
                run("b", v1::RunRole::Check, v1::RunState::Queued, 0),
            ],
            remaining_seconds: Some(25.0),
            counts: Some(v1::RunCounts { running: 1, queued: 1, ..v1::RunCounts::default() }),
            ..v1::SweepProgress::default()
        };
        progress.update(message);
        assert!((progress.share() - 0.375).abs() < 1e-12);
        assert_eq!(
            progress.line(),
            "0 of 2 runs finished, 1 running, 1 queued · 38 % · about 25 s left"
        );
        let fast = v1::SweepProgress { tokens_per_second: 1.25e4, ..progress.latest.clone() };
        progress.update(fast);
        assert!(progress.line().contains("12.5k tokens/s"), "{}", progress.line());
        progress.weights.images = true;
        assert!(progress.line().contains("12.5k images/s"), "{}", progress.line());
        let ended = vec![run("a", v1::RunRole::Fit, v1::RunState::Failed, 50)];
        progress.update(v1::SweepProgress { runs: ended, ..v1::SweepProgress::default() });
        assert!((progress.share() - 0.75).abs() < 1e-12);
        #[cfg(feature = "local")]
        assert!(progress.role_ended(v1::RunRole::Fit) && !progress.role_ended(v1::RunRole::Check));
    }
}
