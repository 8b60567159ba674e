//! Which runs of a sweep are meant: `all`, `last`, places in its order such as `3` or `1-10`, and ids or
//! beginnings of them; several are joined by commas.

use std::{collections::BTreeSet, str::FromStr};

use crate::{
    exit::{Exit, Failure},
    results::SweepResults,
};

/// Fewest digits of the beginning of an id.
const ID_DIGITS_MIN: usize = 4;

/// What a reader may write.
const HINT: &str = "hint: all, last, a place such as 3 or 1-10 as `sweep status SWEEP` numbers them, \
                    or at least 4 digits of an id; several are joined by commas";

/// A choice of runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Selector(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    All,
    Last,
    /// From the first to the last, counted from 1.
    Places(usize, usize),
    /// The beginning of an id.
    Id(String),
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(part).collect::<Result<_, _>>().map(Self)
    }
}

fn part(text: &str) -> Result<Part, String> {
    let text = text.trim();
    let place = |text: &str| text.parse::<usize>().ok().filter(|&place| place > 0);
    match text {
        "all" => return Ok(Part::All),
        "last" => return Ok(Part::Last),
        _ => {}
    }
    if let Some((from, to)) = text.split_once('-') {
        return match (place(from), place(to)) {
            (Some(from), Some(to)) if from <= to => Ok(Part::Places(from, to)),
            _ => Err(format!("`{text}` is no range of places; {HINT}")),
        };
    }
    // A beginning of an id may have decimal digits alone: how many runs there are decides.
    let is_id = text.len() >= ID_DIGITS_MIN && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match place(text) {
        _ if is_id => Ok(Part::Id(text.to_owned())),
        Some(place) => Ok(Part::Places(place, place)),
        None => Err(format!("`{text}` chooses no run; {HINT}")),
    }
}

impl Selector {
    /// The places of the chosen among all runs of a sweep, which are given by their ids in order.
    ///
    /// # Errors
    /// Exit code 4 for a place or an id that no run has, 2 for the beginning of several ids.
    pub(crate) fn places(&self, ids: &[&str]) -> Result<BTreeSet<usize>, Failure> {
        let mut chosen = BTreeSet::new();
        for part in &self.0 {
            match part {
                Part::All => chosen.extend(0..ids.len()),
                Part::Last => chosen.extend(ids.len().checked_sub(1)),
                Part::Places(from, to) => chosen.extend(between(*from, *to, ids.len())?),
                Part::Id(text) => chosen.extend([by_id(text, ids)?]),
            }
        }
        Ok(chosen)
    }

    /// Leaves only the chosen runs in the results of a sweep. Curves stay, since a branch begins with
    /// its trunk's.
    ///
    /// # Errors
    /// Those of [`Selector::places`].
    pub(crate) fn narrow(&self, results: &mut SweepResults) -> Result<(), Failure> {
        let ids: Vec<&str> = results.runs.iter().map(|run| run.id.as_str()).collect();
        let chosen = self.places(&ids)?;
        let mut place = 0..;
        results.runs.retain(|_| place.next().is_some_and(|place| chosen.contains(&place)));
        Ok(())
    }
}

fn between(from: usize, to: usize, count: usize) -> Result<std::ops::Range<usize>, Failure> {
    if to > count {
        let message = format!("the sweep has {count} runs, and no run {to}; {HINT}");
        return Err(Failure::message(Exit::NoMatch, message));
    }
    Ok(from - 1..to)
}

fn by_id(text: &str, ids: &[&str]) -> Result<usize, Failure> {
    let mut found = ids.iter().enumerate().filter(|(_, id)| id.starts_with(text));
    match (found.next(), found.next()) {
        (Some((place, _)), None) => Ok(place),
        (Some(_), Some(_)) => {
            let message = format!("`{text}` begins several ids; hint: give more digits");
            Err(Failure::message(Exit::Usage, message))
        }
        (None, _) => match text.parse() {
            Ok(place) if (1..=ids.len()).contains(&place) => Ok(place - 1),
            _ => {
                let message = format!("no run of the sweep is called `{text}`; {HINT}");
                Err(Failure::message(Exit::NoMatch, message))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: [&str; 4] = ["aaaa11", "aaaa22", "12345f", "bbbb00"];

    fn places(text: &str) -> Result<Vec<usize>, Failure> {
        let selector: Selector = text.parse().expect("reads");
        selector.places(&IDS).map(|places| places.into_iter().collect())
    }

    #[test]
    fn runs_are_chosen_by_place_and_by_id() {
        for (text, chosen) in [
            ("all", &[0, 1, 2, 3][..]),
            ("last", &[3]),
            ("2", &[1]),
            ("1-3", &[0, 1, 2]),
            ("bbbb", &[3]),
            ("1234", &[2]),
            ("last, 1,1-2", &[0, 1, 3]),
        ] {
            assert_eq!(places(text).expect(text), chosen, "{text}");
        }
        let many: Vec<String> = (0..1200).map(|run| format!("c{run:07}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let selector: Selector = "1100".parse().expect("reads");
        let found: Vec<usize> = selector.places(&many).expect("a place").into_iter().collect();
        assert_eq!(found, [1099], "no id begins so: it is a place");
    }

    #[test]
    fn what_chooses_nothing_is_named() {
        for text in ["", "x", "0", "3-1", "1-", "abc", "1,,2"] {
            let error = text.parse::<Selector>().expect_err(text);
            assert!(error.contains("hint:"), "{error}");
        }
        for (text, exit) in [
            ("5", Exit::NoMatch),
            ("2-9", Exit::NoMatch),
            ("9999", Exit::NoMatch),
            ("aaaa", Exit::Usage),
            ("cccc", Exit::NoMatch),
        ] {
            let failure = places(text).expect_err(text);
            assert_eq!(failure.exit(), exit, "{failure}");
            assert!(failure.to_string().contains("hint:"), "{failure}");
        }
    }
}
