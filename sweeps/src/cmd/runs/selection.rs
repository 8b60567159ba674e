//! Which runs of a sweep an operator means: by their places in its list or their ids, and by state.

use sweep_proto::{client::Control, convert, v1};
use sweep_spec::attempt::RunState;

use crate::{
    client::{refused, select_sweep},
    exit::{Exit, Failure, OrExit as _},
    results::selector::Selector,
};

/// Which runs of a sweep.
#[derive(Debug, clap::Args)]
pub(super) struct Selection {
    /// A sweep, by name, id or the beginning of its id, or `last`
    sweep: String,
    /// Only these runs of it, each by itself: all, last, places as 3 or 1-10, ids; joined by commas
    #[arg(value_name = "RUNS")]
    chosen: Vec<Selector>,
    /// Only this run, as RUNS; repeats, and adds to them
    #[arg(long = "run", value_name = "RUN")]
    runs: Vec<Selector>,
    /// Of these only runs in this state: queued, running, finished, diverged, failed, cancelled; repeats
    #[arg(long = "state", value_name = "STATE", value_parser = state)]
    states: Vec<RunState>,
}

fn state(text: &str) -> Result<RunState, String> {
    RunState::from_name(text).ok_or_else(|| {
        let names: Vec<&str> = RunState::ALL.iter().map(|state| state.name()).collect();
        format!("no state is called `{text}`; hint: {}", names.join(", "))
    })
}

impl Selection {
    /// The sweep, and the ids of the runs selected in it; `None` for the sweep as a whole.
    ///
    /// # Errors
    /// Exit code 4 where nothing matches, 2 for an id that begins several runs.
    pub(super) async fn select(
        &self,
        control: &mut Control,
    ) -> Result<(String, Option<Vec<String>>), Failure> {
        let sweep = select_sweep(control, &self.sweep).await?;
        if self.chosen.is_empty() && self.runs.is_empty() && self.states.is_empty() {
            return Ok((sweep, None));
        }
        let request =
            v1::ListRunsRequest { sweep: sweep.clone(), ..v1::ListRunsRequest::default() };
        let mut rows = control.list_runs(request).await.map_err(refused)?.into_inner();
        let mut listed = Vec::new();
        while let Some(row) = rows.message().await.map_err(refused)? {
            let state = convert::run_state("state", row.state).or_exit(Exit::Failed)?;
            listed.push((row.run_id, state));
        }
        Ok((sweep, Some(self.choose(&listed)?)))
    }

    /// The ids of the selected among all runs of a sweep, which are given in their order.
    fn choose(&self, listed: &[(String, RunState)]) -> Result<Vec<String>, Failure> {
        let ids: Vec<&str> = listed.iter().map(|(id, _)| id.as_str()).collect();
        let anything = self.chosen.is_empty() && self.runs.is_empty();
        let mut chosen = vec![anything; listed.len()];
        for selector in self.chosen.iter().chain(&self.runs) {
            for place in selector.places(&ids)? {
                chosen[place] = true;
            }
        }
        let wanted = |state: &RunState| self.states.is_empty() || self.states.contains(state);
        let selected =
            listed.iter().zip(chosen).filter(|((_, state), chosen)| *chosen && wanted(state));
        let runs: Vec<String> = selected.map(|((id, _), _)| id.clone()).collect();
        if runs.is_empty() {
            let message =
                "no such run of the sweep is in such a state; hint: see `sweep status SWEEP`";
            return Err(Failure::message(Exit::NoMatch, message));
        }
        Ok(runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::called::parsed;

    const IDS: [&str; 4] = ["aaaa1111", "aaaa2222", "bbbb3333", "12345678"];

    fn choose(words: &[&str]) -> Result<Vec<String>, Failure> {
        let states = [RunState::Finished, RunState::Running, RunState::Queued, RunState::Queued];
        let listed: Vec<_> = IDS.map(str::to_owned).into_iter().zip(states).collect();
        let words = [&["cancel", "last"], words].concat();
        parsed::<Selection>(&words).unwrap().choose(&listed)
    }

    #[test]
    fn places_ids_and_states_choose_together() {
        for (words, places) in [
            (&["all"][..], &[0, 1, 2, 3][..]),
            (&["1"], &[0]),
            (&["2-3"], &[1, 2]),
            (&["4,1"], &[0, 3]),
            (&["1", "3-4"], &[0, 2, 3]),
            (&["bbbb"], &[2]),
            (&["--run", "1234", "1"], &[0, 3]),
            (&["--state", "queued"], &[2, 3]),
            (&["all", "--state", "running", "--state", "finished"], &[0, 1]),
        ] {
            let expected: Vec<&str> = places.iter().map(|&place| IDS[place]).collect();
            assert_eq!(choose(words).unwrap(), expected, "{words:?}");
        }
    }

    #[test]
    fn what_is_not_in_the_list_is_named() {
        for (words, exit, part) in [
            (&["5"][..], Exit::NoMatch, "the sweep has 4 runs, and no run 5"),
            (&["3-9"], Exit::NoMatch, "no run 9"),
            (&["--run", "aaaa"], Exit::Usage, "`aaaa` begins several ids"),
            (&["--run", "cccc"], Exit::NoMatch, "called `cccc`"),
            (&["--state", "failed"], Exit::NoMatch, "in such a state"),
            (&["1", "--state", "queued"], Exit::NoMatch, "in such a state"),
        ] {
            let failure = choose(words).unwrap_err();
            let text = failure.to_string();
            assert!(text.contains(part) && text.contains("hint:"), "{words:?}: {text}");
            assert_eq!(failure.exit(), exit, "{words:?}");
        }
    }
}
