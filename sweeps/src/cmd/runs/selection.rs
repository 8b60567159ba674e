//! Which runs of a sweep: by their places in its list, by the beginnings of their ids, by state.

use std::ops::RangeInclusive;

use sweep_proto::{client::Control, convert, v1};
use sweep_spec::attempt::RunState;

use crate::{
    client::{refused, select_sweep},
    exit::{Exit, Failure, OrExit as _},
};

/// Digits of an id that tell a choice from a typing error.
const DIGITS_MIN: usize = 4;

/// Which runs of a sweep.
#[derive(Debug, clap::Args)]
pub(super) struct Selector {
    /// A sweep, by name, id or the beginning of its id, or `last`
    sweep: String,
    /// Only the runs at these places of `sweep status SWEEP`, such as 3, 1-10 or 3,7, or all of them by
    /// themselves; repeats
    #[arg(value_name = "PLACES", value_parser = places)]
    places: Vec<Places>,
    /// Only this run, by its id or the beginning of it; repeats, and adds to PLACES
    #[arg(long = "run", value_name = "RUN")]
    runs: Vec<String>,
    /// Of these only runs in this state: queued, running, finished, diverged, failed, cancelled; repeats
    #[arg(long = "state", value_name = "STATE", value_parser = state)]
    states: Vec<RunState>,
}

/// Places in the list of a sweep, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Places {
    All,
    Some(Vec<RangeInclusive<usize>>),
}

/// A run of the list.
#[derive(Clone, Debug)]
struct Listed {
    id: String,
    state: RunState,
}

fn state(text: &str) -> Result<RunState, String> {
    RunState::from_name(text).ok_or_else(|| {
        let names: Vec<&str> = RunState::ALL.iter().map(|state| state.name()).collect();
        format!("no state is called `{text}`; hint: {}", names.join(", "))
    })
}

fn places(text: &str) -> Result<Places, String> {
    if text == "all" {
        return Ok(Places::All);
    }
    text.split(',').map(range).collect::<Result<_, _>>().map(Places::Some)
}

fn range(text: &str) -> Result<RangeInclusive<usize>, String> {
    let wrong = || {
        format!(
            "`{text}` is no place in the list; hint: 3, 1-10, 3,7 or all; a run by its id is --run {text}"
        )
    };
    let number = |text: &str| text.parse::<usize>().ok().filter(|_| !text.starts_with('+'));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (number(first), number(last)) {
        (Some(0), _) => {
            Err("places are counted from 1; hint: `sweep status SWEEP` shows them".into())
        }
        (Some(first), Some(last)) if first > last => {
            Err(format!("`{text}` goes backwards; hint: {last}-{first}"))
        }
        (Some(first), Some(last)) => Ok(first..=last),
        _ => Err(wrong()),
    }
}

impl Selector {
    /// The sweep alone, where no runs of it are named.
    pub(super) fn is_whole(&self) -> bool {
        self.places.is_empty() && self.runs.is_empty() && self.states.is_empty()
    }

    /// The sweep, and the ids of the runs selected in it; `None` for the sweep as a whole.
    ///
    /// # Errors
    /// Exit code 4 where nothing matches, 2 for a place outside of the list or an id that begins
    /// several runs.
    pub(super) async fn select(
        &self,
        control: &mut Control,
    ) -> Result<(String, Option<Vec<String>>), Failure> {
        let sweep = select_sweep(control, &self.sweep).await?;
        if self.is_whole() {
            return Ok((sweep, None));
        }
        let request =
            v1::ListRunsRequest { sweep: sweep.clone(), ..v1::ListRunsRequest::default() };
        let mut rows = control.list_runs(request).await.map_err(refused)?.into_inner();
        let mut listed = Vec::new();
        while let Some(row) = rows.message().await.map_err(refused)? {
            let state = convert::run_state("state", row.state).or_exit(Exit::Failed)?;
            listed.push(Listed { id: row.run_id, state });
        }
        Ok((sweep, Some(self.choose(&listed)?)))
    }

    fn choose(&self, listed: &[Listed]) -> Result<Vec<String>, Failure> {
        let mut chosen = vec![self.places.is_empty() && self.runs.is_empty(); listed.len()];
        for places in &self.places {
            match places {
                Places::All => chosen.fill(true),
                Places::Some(ranges) => {
                    for range in ranges {
                        let inside = chosen.get_mut(range.start() - 1..*range.end());
                        inside.ok_or_else(|| outside(*range.end(), listed.len()))?.fill(true);
                    }
                }
            }
        }
        for run in &self.runs {
            chosen[place_of(run, listed)?] = true;
        }
        let wanted = |run: &Listed| self.states.is_empty() || self.states.contains(&run.state);
        let runs: Vec<String> = listed
            .iter()
            .zip(chosen)
            .filter(|(run, chosen)| *chosen && wanted(run))
            .map(|(run, _)| run.id.clone())
            .collect();
        if runs.is_empty() {
            let message =
                "no such run of the sweep is in such a state; hint: see `sweep status SWEEP`";
            return Err(Failure::message(Exit::NoMatch, message));
        }
        Ok(runs)
    }
}

fn outside(place: usize, runs: usize) -> Failure {
    let message = format!(
        "place {place} is outside of the list: the sweep has {runs} runs; hint: `sweep status SWEEP` shows \
         their places"
    );
    Failure::message(Exit::Usage, message)
}

/// The place of the one run whose id begins like this.
fn place_of(selector: &str, listed: &[Listed]) -> Result<usize, Failure> {
    let long = selector.len() >= DIGITS_MIN;
    let mut found =
        listed.iter().enumerate().filter(|(_, run)| long && run.id.starts_with(selector));
    match (found.next(), found.count()) {
        (Some((place, _)), 0) => Ok(place),
        (Some(_), more) => {
            let message = format!(
                "{} runs of the sweep begin with `{selector}`; hint: give more digits",
                more + 1
            );
            Err(Failure::message(Exit::Usage, message))
        }
        (None, _) => {
            let message = format!(
                "no run of the sweep begins with `{selector}`; hint: at least {DIGITS_MIN} digits of an id \
                 that `sweep status SWEEP` shows"
            );
            Err(Failure::message(Exit::NoMatch, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::called::parsed;

    fn list() -> Vec<Listed> {
        let ids = ["aaaa1111", "aaaa2222", "bbbb3333", "12345678"];
        let states = [RunState::Finished, RunState::Running, RunState::Queued, RunState::Queued];
        let listed = ids.into_iter().zip(states);
        listed.map(|(id, state)| Listed { id: id.to_owned(), state }).collect()
    }

    fn choose(words: &[&str]) -> Result<Vec<String>, Failure> {
        let words = [&["cancel", "last"], words].concat();
        parsed::<Selector>(&words).unwrap().choose(&list())
    }

    #[test]
    fn places_ids_and_states_choose_together() {
        let all = ["aaaa1111", "aaaa2222", "bbbb3333", "12345678"];
        for (words, places) in [
            (&["all"][..], &[0, 1, 2, 3][..]),
            (&["1"], &[0]),
            (&["2-3"], &[1, 2]),
            (&["4,1"], &[0, 3]),
            (&["1", "3-4"], &[0, 2, 3]),
            (&["--run", "bbbb"], &[2]),
            (&["--run", "1234", "1"], &[0, 3]),
            (&["--state", "queued"], &[2, 3]),
            (&["all", "--state", "running", "--state", "finished"], &[0, 1]),
        ] {
            let expected: Vec<&str> = places.iter().map(|&place| all[place]).collect();
            assert_eq!(choose(words).unwrap(), expected, "{words:?}");
        }
    }

    #[test]
    fn what_is_not_in_the_list_is_named() {
        for (words, exit, part) in [
            (&["5"][..], Exit::Usage, "place 5 is outside of the list: the sweep has 4 runs"),
            (&["3-9"], Exit::Usage, "place 9 is outside"),
            (&["6-9"], Exit::Usage, "place 9 is outside"),
            (&["--run", "aaaa"], Exit::Usage, "2 runs of the sweep begin with `aaaa`"),
            (&["--run", "cccc"], Exit::NoMatch, "no run of the sweep begins with `cccc`"),
            (&["--run", "bbb"], Exit::NoMatch, "at least 4 digits"),
            (&["--state", "failed"], Exit::NoMatch, "in such a state"),
            (&["1", "--state", "queued"], Exit::NoMatch, "in such a state"),
        ] {
            let failure = choose(words).unwrap_err();
            let text = failure.to_string();
            assert!(text.contains(part) && text.contains("hint:"), "{words:?}: {text}");
            assert_eq!(failure.exit(), exit, "{words:?}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused_with_the_cure() {
        for (word, part) in [
            ("0", "counted from 1"),
            ("7-3", "hint: 3-7"),
            ("abcd", "--run abcd"),
            ("3,,7", "no place"),
            ("+3", "no place"),
            ("99999999999999999999999", "no place"),
        ] {
            let error = parsed::<Selector>(&["cancel", "last", word]).unwrap_err().to_string();
            assert!(error.contains(part), "{word}: {error}");
        }
    }
}
