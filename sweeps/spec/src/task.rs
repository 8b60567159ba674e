//! Evaluation tasks: what they ask, how likely a guess is right, and how much of the training text
//! is made of them.
//!
//! A task is a suite with its parameters (items are drawn, not stored) or a file of items. The
//! items themselves are written in `sweep-data`; here stands what a recipe says and what enters a
//! run's identity. Tasks are written in bytes, so they need a vocabulary of bytes.
//!
//! Which items are held out is decided by the hash of their prompt alone. So the number of items
//! that are scored is free to change without touching a run, and none of them is ever trained on.

use serde::{Deserialize, Serialize};

/// Most tasks of a recipe; bounds the metrics of a run (see [`crate::metric`]).
pub const MAX_TASKS: usize = 12;

/// The vocabulary that tasks are written in.
pub const TASK_VOCABULARY: u32 = 256;

/// Most items scored of one task; 10,000 resolve a rate of 1e-4.
pub const MAX_ITEMS: u32 = 10_000;

/// What a task asks. Its JSON enters the identity of every run that is trained on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "suite", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Suite {
    /// `M17+88=08`: the sum of two numbers modulo `modulus`, in digits of equal number.
    ModularAddition {
        /// 11 to 10,000.
        modulus: u32,
    },
    /// `A123+456=0579`: the sum of two numbers of `digits` digits, with one digit more.
    Addition {
        /// 1 to 9.
        digits: u32,
    },
    /// `Cdacb>dacb`: `length` letters out of `alphabet`, again.
    Copying {
        /// 2 to 64.
        length: u32,
        /// 2 to 26.
        alphabet: u32,
    },
    /// `Iqzab>q` then `z`: which letter followed this one; the letters are distinct.
    Induction {
        /// 4 to 26.
        length: u32,
    },
    /// `B([])>` then `y`, or `n` where one bracket is wrong; half of the items each.
    Brackets {
        /// Even, 6 to 64.
        length: u32,
    },
    /// `Sdbca>abcd`: distinct letters in order.
    Sorting {
        /// 3 to 26.
        length: u32,
    },
    /// `Lab,cd,bc>a` then `c` for two hops: where this many steps along the pairs lead.
    Lookup {
        /// 1 to 4.
        hops: u32,
        /// Pairs in the prompt, above `hops`, at most 12.
        pairs: u32,
    },
    /// `Pab,bc,cd,ae>ad` then `bcd`: the shortest path in an undirected graph, without its start;
    /// it is the only one of its length.
    ShortestPath {
        /// 4 to 12.
        nodes: u32,
        /// Edges of the path, 2 to 4.
        hops: u32,
    },
    /// Items of a file of JSON lines, named by their content.
    File {
        /// Hash of the file's content; empty until it was read.
        content: String,
        /// Share of the items that is held out where the rest is trained on; all are scored where
        /// none is.
        held_out: f64,
    },
}

/// A task of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Unique in its recipe.
    pub name: String,
    /// What it asks.
    pub suite: Suite,
    /// Where a worker finds the items of a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Held-out items scored at most.
    pub items: u32,
    /// Share of the training windows that is made of this task.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fraction: f64,
    /// How often it is scored over a run; the last step is always one.
    pub times: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
fn is_zero(fraction: &f64) -> bool {
    *fraction == 0.0
}

/// A part of the training text that is made of a task; enters a run's identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mixed {
    /// The task.
    pub suite: Suite,
    /// Its share of the training windows.
    pub fraction: f64,
}

/// What of these tasks enters a run's identity: those that are trained on.
#[must_use]
pub fn mixture(tasks: &[Task]) -> Vec<Mixed> {
    tasks
        .iter()
        .filter(|task| task.fraction > 0.0)
        .map(|task| Mixed { suite: task.suite.clone(), fraction: task.fraction })
        .collect()
}

impl Suite {
    /// Its name in recipes.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::ModularAddition { .. } => "modular-addition",
            Self::Addition { .. } => "addition",
            Self::Copying { .. } => "copying",
            Self::Induction { .. } => "induction",
            Self::Brackets { .. } => "brackets",
            Self::Sorting { .. } => "sorting",
            Self::Lookup { .. } => "lookup",
            Self::ShortestPath { .. } => "shortest-path",
            Self::File { .. } => "file",
        }
    }

    /// The rate of exact matches of a guess that knows the form of an answer and nothing else;
    /// absent for a file, whose items know it where they have choices.
    ///
    /// | suite | guesses among |
    /// |---|---|
    /// | modular addition | p residues |
    /// | addition of k digits | the 2 10^k - 1 sums |
    /// | copying n of a letters | a^n words |
    /// | induction over n letters | the n - 1 letters that follow one |
    /// | brackets | 2 verdicts |
    /// | sorting n letters | n! orders |
    /// | look-up in n pairs | the n targets |
    /// | path of h edges among n nodes | (n - 2)! / (n - 1 - h)! ways over other nodes |
    #[must_use]
    pub fn chance(&self) -> Option<f64> {
        // Falling factorial: the product of `count` numbers from `from` downwards.
        let falling = |from: u32, count: u32| -> f64 {
            (0..count).map(|index| f64::from(from - index)).product()
        };
        let power = |base: u32, exponent: u32| libm::pow(f64::from(base), f64::from(exponent));
        Some(match *self {
            Self::ModularAddition { modulus } => 1.0 / f64::from(modulus),
            Self::Addition { digits } => 1.0 / (2.0 * power(10, digits) - 1.0),
            Self::Copying { length, alphabet } => 1.0 / power(alphabet, length),
            Self::Induction { length } => 1.0 / f64::from(length - 1),
            Self::Brackets { .. } => 0.5,
            Self::Sorting { length } => 1.0 / falling(length, length),
            Self::Lookup { pairs, .. } => 1.0 / f64::from(pairs),
            Self::ShortestPath { nodes, hops } => 1.0 / falling(nodes - 2, hops - 1),
            Self::File { .. } => return None,
        })
    }

    /// Tokens of the longest prompt with its answer; absent for a file.
    #[must_use]
    pub const fn window(&self) -> Option<u32> {
        Some(match *self {
            Self::ModularAddition { modulus } => 3 + 3 * decimal_digits(modulus - 1),
            Self::Addition { digits } => 3 + 3 * digits + 1,
            Self::Copying { length, .. } | Self::Sorting { length } => 2 + 2 * length,
            Self::Induction { length } => 4 + length,
            Self::Brackets { length } => 3 + length,
            Self::Lookup { pairs, .. } => 1 + 3 * pairs + 2,
            // A graph has at most `graph_edges` edges of three tokens each.
            Self::ShortestPath { nodes, hops } => 1 + 3 * graph_edges(nodes) + 2 + hops,
            Self::File { .. } => return None,
        })
    }
}

/// Edges of the graph of a path item: one more than a tree has, so that there is a loop and a way
/// to choose. With two more, four nodes would have no pair with one shortest path of two edges.
#[must_use]
pub const fn graph_edges(nodes: u32) -> u32 {
    nodes
}

/// Decimal digits of a number.
#[must_use]
pub const fn decimal_digits(number: u32) -> u32 {
    match number.checked_ilog10() {
        Some(log) => log + 1,
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_levels_are_those_counted_by_hand() {
        let chance = |suite: Suite| suite.chance().expect("a suite");
        assert_eq!(chance(Suite::ModularAddition { modulus: 97 }), 1.0 / 97.0);
        // 0 + 0 to 9 + 9: nineteen sums.
        assert_eq!(chance(Suite::Addition { digits: 1 }), 1.0 / 19.0);
        assert_eq!(chance(Suite::Copying { length: 3, alphabet: 4 }), 1.0 / 64.0);
        assert_eq!(chance(Suite::Sorting { length: 4 }), 1.0 / 24.0);
        assert_eq!(chance(Suite::Induction { length: 6 }), 0.2);
        assert_eq!(chance(Suite::Lookup { hops: 2, pairs: 5 }), 0.2);
        // Of 6 nodes 4 are neither start nor end; two of them in order are 12 ways.
        assert_eq!(chance(Suite::ShortestPath { nodes: 6, hops: 3 }), 1.0 / 12.0);
    }

    #[test]
    fn only_what_is_trained_on_enters_the_identity() {
        let task = |fraction| Task {
            name: "a".to_owned(),
            suite: Suite::Brackets { length: 8 },
            path: None,
            items: 10,
            fraction,
            times: 1,
        };
        assert!(mixture(&[task(0.0)]).is_empty());
        assert_eq!(mixture(&[task(0.0), task(0.5)]).len(), 1);
    }

    #[test]
    fn a_suite_reads_back() {
        let suite = Suite::Lookup { hops: 2, pairs: 5 };
        let text = crate::hash::canonical_json(&suite);
        assert_eq!(text, r#"{"hops":2,"pairs":5,"suite":"lookup"}"#);
        assert_eq!(serde_json::from_str::<Suite>(&text).expect("reads"), suite);
    }
}
