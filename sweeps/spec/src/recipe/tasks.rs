//! `[[task]]`: what an author writes of a task, and its check.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    KeyPath,
    raw::RawRecipe,
    validate::{Fault, ensure},
};
use crate::{
    data::{DataSource, Tokenizer},
    task::{MAX_ITEMS, MAX_TASKS, Suite, TASK_VOCABULARY, Task},
};

/// Share of a file's items that is held out where the recipe does not say.
const HELD_OUT: f64 = 0.2;

/// Kinds of task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SuiteKind {
    /// `M17+88=08`: a sum modulo `modulus`.
    ModularAddition,
    /// `A123+456=0579`: a sum of numbers of `digits` digits.
    Addition,
    /// `Cdacb>dacb`: `length` letters out of `alphabet`, again.
    Copying,
    /// `Iqzab>qz`: which of `length` letters followed this one.
    Induction,
    /// `B([])>y`: whether `length` brackets match.
    Brackets,
    /// `Sdbca>abcd`: `length` letters in order.
    Sorting,
    /// `Lab,cd,bc>ac`: where `hops` steps along `pairs` pairs lead.
    Lookup,
    /// `Pab,bc,cd,ae>adbcd`: the shortest path of `hops` edges among `nodes` nodes.
    ShortestPath,
    /// Items of a file of JSON lines: { "prompt": "...", "answer": "..." }, or "choices" with the
    /// place of the right one as "answer".
    File,
}

/// A task: scored on held-out items, mixed into the training text at a fraction. Which keys apply
/// depends on `suite`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawTask {
    /// Kind of task.
    pub suite: SuiteKind,
    /// Its name on figures; the suite's with its parameters when absent.
    pub name: Option<String>,
    /// Share of the training windows that is made of this task, from 0 to 1; 0 when absent.
    #[serde(default)]
    pub fraction: f64,
    /// Held-out items scored at most.
    #[serde(default = "default_items")]
    pub items: u32,
    /// Scorings over a run, in equal logarithmic spacing; the last step is always one.
    #[serde(default = "default_times")]
    pub times: u32,
    /// `modular-addition`: 11 to 10000; 97 when absent.
    pub modulus: Option<u32>,
    /// `addition`: digits of a summand, 1 to 9; 2 when absent.
    pub digits: Option<u32>,
    /// `copying`, `induction`, `brackets`, `sorting`: letters or brackets; 8 when absent.
    pub length: Option<u32>,
    /// `copying`: letters to draw from, 2 to 26; 16 when absent.
    pub alphabet: Option<u32>,
    /// `lookup`: 1 to 4; `shortest-path`: 2 to 4; 2 when absent.
    pub hops: Option<u32>,
    /// `lookup`: pairs in the prompt, above `hops`, at most 12; 6 when absent.
    pub pairs: Option<u32>,
    /// `shortest-path`: nodes of the graph, 4 to 12; 6 when absent.
    pub nodes: Option<u32>,
    /// `file`: the JSON lines; a relative path starts at the recipe's folder.
    pub path: Option<String>,
    /// `file`: share of the items held out where `fraction` is above 0; 0.2 when absent.
    pub held_out: Option<f64>,
}

fn default_items() -> u32 {
    200
}

fn default_times() -> u32 {
    4
}

/// The tasks of a recipe.
pub(super) fn tasks(raw: &RawRecipe, data: &DataSource) -> Result<Vec<Task>, Fault> {
    let at = |index: usize, key: &'static str| KeyPath::of(&["task"]).index(index).name(key);
    ensure(raw.task.len() <= MAX_TASKS, &["task"], || {
        format!("{} tasks are more than the limit of {MAX_TASKS}; hint: drop some", raw.task.len())
    })?;
    if !raw.task.is_empty() {
        check_bytes(data)?;
    }
    let mut tasks: Vec<Task> = Vec::with_capacity(raw.task.len());
    let mut sum = 0.0;
    for (index, entry) in raw.task.iter().enumerate() {
        let fault = |key: &'static str, message: String| (at(index, key), message);
        let task = task(entry).map_err(|(key, message)| fault(key, message))?;
        if let Some(needed) = task.suite.window()
            && raw.sequence().is_some_and(|sequence| needed > sequence)
        {
            let message = format!(
                "prompt and answer have up to {needed} tokens, the window of the model has fewer; \
                 hint: set `model.sequence` to at least {needed}, or make the task smaller"
            );
            return Err(fault("suite", message));
        }
        if let Some(other) = tasks.iter().position(|other| other.name == task.name) {
            let message = format!(
                "`{}` is also the name of task {}; hint: give each a `name`",
                task.name,
                other + 1
            );
            return Err(fault("name", message));
        }
        sum += task.fraction;
        // Rounding of a sum of up to twelve shares that are one together.
        if sum > 1.0 + 1e-9 {
            let message = format!(
                "the fractions up to here sum to {sum:.3}; hint: together they are at most 1"
            );
            return Err(fault("fraction", message));
        }
        tasks.push(task);
    }
    Ok(tasks)
}

fn check_bytes(data: &DataSource) -> Result<(), Fault> {
    let bytes = match data {
        DataSource::Text { tokenizer, .. } => *tokenizer == Tokenizer::Bytes,
        DataSource::Bin { vocabulary, .. } => *vocabulary == TASK_VOCABULARY,
        DataSource::Synthetic(source) => source.vocabulary == TASK_VOCABULARY,
        DataSource::Images { .. } | DataSource::Glyphs(_) => false,
    };
    ensure(bytes, &["task"], || {
        "tasks are written in bytes, the tokens of this data are no bytes; hint: use the tokenizer \
         \"bytes\", or a vocabulary of 256"
            .to_owned()
    })
}

type KeyFault = (&'static str, String);

fn task(raw: &RawTask) -> Result<Task, KeyFault> {
    foreign_keys(raw)?;
    let fraction = raw.fraction;
    if !(0.0..=1.0).contains(&fraction) {
        let message = format!("{fraction} is no share; hint: give a number from 0 to 1");
        return Err(("fraction", message));
    }
    let items = within(Some(raw.items), "items", 0, 1..=MAX_ITEMS)?;
    let times = within(Some(raw.times), "times", 0, 1..=100)?;
    let suite = suite(raw)?;
    let path = (raw.suite == SuiteKind::File).then(|| raw.path.clone()).flatten();
    let name = raw.name.clone().unwrap_or_else(|| default_name(&suite, path.as_deref()));
    if name.is_empty() || name.len() > 40 || name.chars().any(char::is_control) {
        return Err(("name", format!("`{name}` is no name; hint: give 1 to 40 characters")));
    }
    Ok(Task { name, suite, path, items, fraction, times })
}

/// Refuses keys that the suite does not read: they would be ignored without a word.
fn foreign_keys(raw: &RawTask) -> Result<(), KeyFault> {
    use SuiteKind::{
        Addition, Brackets, Copying, File, Induction, Lookup, ModularAddition, ShortestPath,
        Sorting,
    };
    let keys: [(&'static str, bool, &[SuiteKind]); 9] = [
        ("modulus", raw.modulus.is_some(), &[ModularAddition]),
        ("digits", raw.digits.is_some(), &[Addition]),
        ("length", raw.length.is_some(), &[Copying, Induction, Brackets, Sorting]),
        ("alphabet", raw.alphabet.is_some(), &[Copying]),
        ("hops", raw.hops.is_some(), &[Lookup, ShortestPath]),
        ("pairs", raw.pairs.is_some(), &[Lookup]),
        ("nodes", raw.nodes.is_some(), &[ShortestPath]),
        ("path", raw.path.is_some(), &[File]),
        ("held_out", raw.held_out.is_some(), &[File]),
    ];
    match keys.into_iter().find(|(_, given, suites)| *given && !suites.contains(&raw.suite)) {
        Some((key, ..)) => {
            Err((key, "a task of this suite has no such key; hint: remove it".to_owned()))
        }
        None => Ok(()),
    }
}

fn within(
    value: Option<u32>,
    key: &'static str,
    default: u32,
    range: std::ops::RangeInclusive<u32>,
) -> Result<u32, KeyFault> {
    let value = value.unwrap_or(default);
    if range.contains(&value) {
        return Ok(value);
    }
    let message =
        format!("{value} is out of range; hint: give {} to {}", range.start(), range.end());
    Err((key, message))
}

fn suite(raw: &RawTask) -> Result<Suite, KeyFault> {
    let length = |range| within(raw.length, "length", 8, range);
    Ok(match raw.suite {
        SuiteKind::ModularAddition => {
            Suite::ModularAddition { modulus: within(raw.modulus, "modulus", 97, 11..=10_000)? }
        }
        SuiteKind::Addition => Suite::Addition { digits: within(raw.digits, "digits", 2, 1..=9)? },
        SuiteKind::Copying => Suite::Copying {
            length: length(2..=64)?,
            alphabet: within(raw.alphabet, "alphabet", 16, 2..=26)?,
        },
        SuiteKind::Induction => Suite::Induction { length: length(4..=26)? },
        SuiteKind::Brackets => {
            let length = length(6..=64)?;
            if length % 2 == 1 {
                let message = format!("{length} brackets never match; hint: give an even number");
                return Err(("length", message));
            }
            Suite::Brackets { length }
        }
        SuiteKind::Sorting => Suite::Sorting { length: length(3..=26)? },
        SuiteKind::Lookup => {
            let hops = within(raw.hops, "hops", 2, 1..=4)?;
            Suite::Lookup { hops, pairs: within(raw.pairs, "pairs", 6, hops + 1..=12)? }
        }
        SuiteKind::ShortestPath => {
            let hops = within(raw.hops, "hops", 2, 2..=4)?;
            Suite::ShortestPath { nodes: within(raw.nodes, "nodes", 6, hops + 2..=12)?, hops }
        }
        SuiteKind::File => {
            if raw.path.as_deref().is_none_or(str::is_empty) {
                let message = "a task of suite `file` needs a `path`; hint: path = \"items.jsonl\"";
                return Err(("path", message.to_owned()));
            }
            let held_out = raw.held_out.unwrap_or(HELD_OUT);
            if !(held_out > 0.0 && held_out < 1.0) {
                let message = format!(
                    "{held_out} is no share to hold out; hint: give a number between 0 and 1"
                );
                return Err(("held_out", message));
            }
            Suite::File { content: String::new(), held_out }
        }
    })
}

fn default_name(suite: &Suite, path: Option<&str>) -> String {
    match suite {
        Suite::ModularAddition { modulus } => format!("addition mod {modulus}"),
        Suite::Addition { digits } => format!("addition of {digits} digits"),
        Suite::Copying { length, .. } => format!("copying {length}"),
        Suite::Induction { length } => format!("induction over {length}"),
        Suite::Brackets { length } => format!("{length} brackets"),
        Suite::Sorting { length } => format!("sorting {length}"),
        Suite::Lookup { hops: 1, .. } => "look-up, 1 hop".to_owned(),
        Suite::Lookup { hops, .. } => format!("look-up, {hops} hops"),
        Suite::ShortestPath { nodes, hops } => format!("path of {hops} among {nodes}"),
        Suite::File { .. } => {
            let name = path.and_then(|path| path.rsplit('/').next()).unwrap_or_default();
            name.chars().take(40).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    const HEAD: &str = "name = \"a\"\n[data]\nsource = \"text\"\nglobs = [\"*.txt\"]\n[model]\n\
                        sequence = 32\n[training]\nbatch = 16\nlearning_rate = 0.01\n[grid]\n\
                        sizes = [\"30k\"]\ntokens = [\"100k\"]\n";

    fn parse(tasks: &str) -> Result<Recipe, String> {
        Recipe::parse("a.toml", &format!("{HEAD}{tasks}")).map_err(|error| error.to_string())
    }

    fn refusal(tasks: &str) -> String {
        parse(tasks).expect_err(tasks)
    }

    #[test]
    fn tasks_have_names_and_parameters_of_their_own() {
        let text = "[[task]]\nsuite = \"lookup\"\nhops = 3\nfraction = 0.25\n\
                    [[task]]\nsuite = \"file\"\npath = \"x/items.jsonl\"\n";
        let tasks = parse(text).expect("valid").evaluation.tasks;
        assert_eq!(tasks[0].name, "look-up, 3 hops");
        assert_eq!(tasks[0].suite, Suite::Lookup { hops: 3, pairs: 6 });
        assert_eq!((tasks[1].name.as_str(), tasks[1].fraction), ("items.jsonl", 0.0));
        assert_eq!((tasks[1].items, tasks[1].times), (200, 4));
    }

    #[test]
    fn a_recipe_without_tasks_reads_as_before() {
        assert!(parse("").expect("valid").evaluation.tasks.is_empty());
    }

    #[test]
    fn what_is_wrong_with_a_task_is_said_where_it_stands() {
        let task = |keys: &str| format!("[[task]]\nsuite = {keys}\n");
        let faults = [
            ("\"brackets\"\nfraction = 1.5", "task[0].fraction: 1.5 is no share"),
            ("\"brackets\"\nfraction = -0.1", "task[0].fraction: -0.1 is no share"),
            ("\"brackets\"\nlength = 7", "task[0].length: 7 brackets never match"),
            ("\"brackets\"\ndigits = 7", "task[0].digits: a task of this suite has no such key"),
            ("\"sorting\"\nlength = 20", "task[0].suite: prompt and answer have up to 42 tokens"),
            ("\"lookup\"\nhops = 5", "task[0].hops: 5 is out of range; hint: give 1 to 4"),
            ("\"file\"", "task[0].path: a task of suite `file` needs a `path`"),
            ("\"modular-addition\"\nmodulus = 7", "task[0].modulus: 7 is out of range"),
            ("\"copying\"\nitems = 0", "task[0].items: 0 is out of range"),
        ];
        for (keys, expected) in faults {
            let found = refusal(&task(keys));
            assert!(found.contains(expected) && found.contains("hint:"), "{keys}: {found}");
        }
        let twice = refusal(&task("\"sorting\"").repeat(2));
        assert!(twice.contains("is also the name of task 1"), "{twice}");
        let sum = format!(
            "{}{}",
            task("\"sorting\"\nfraction = 0.6"),
            task("\"copying\"\nfraction = 0.6")
        );
        assert!(refusal(&sum).contains("task[1].fraction: the fractions up to here sum to 1.2"));
    }

    #[test]
    fn tasks_need_bytes() {
        let text = format!("{HEAD}[[task]]\nsuite = \"sorting\"\n")
            .replace("globs = [\"*.txt\"]", "globs = [\"*.txt\"]\ntokenizer = { bpe = 512 }");
        let found = Recipe::parse("a.toml", &text).expect_err("refused").to_string();
        assert!(found.contains("tasks are written in bytes"), "{found}");
    }
}
