//! Items of evaluation tasks: drawn by a suite, or read from a file of JSON lines.
//!
//! An item is held out when the hash of its prompt says so, so that what is scored was never
//! trained on, whatever the number of items, the order of draws and the length of a run. All draws
//! come from the counter-based generator, so the same items are drawn everywhere.
//!
//! Nothing here knows a model: the trainer scores, the plan counts.

mod file;
mod suites;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use sweep_spec::{
    random::{Purpose, Stream},
    task::{Suite, Task},
};

use crate::error::DataError;

pub use file::content_of;

/// What follows an item in the training text.
pub const END: u8 = b'\n';

/// One item in this many is held out: a suite with few items keeps most for training.
const HELD_OUT: u64 = 8;

/// Draws for one item at most. A suite at the bounds of its parameters needs a few hundred at the
/// end of its held-out items; beyond that there are no more.
const DRAWS_MAX: u32 = 2000;

/// Seed of the held-out items: every run of every sweep is scored on the same ones.
const ITEM_SEED: u64 = 0x7a5c;

/// One question with its answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// What the model reads.
    pub prompt: Vec<u8>,
    /// What it must write; not empty.
    pub answer: Vec<u8>,
    /// What it may choose among, the answer included; empty where it may write anything.
    pub choices: Vec<Vec<u8>>,
    /// How often a guess is right that knows the form of an answer and nothing else; absent where
    /// nothing is known of the form.
    pub chance: Option<f64>,
}

impl Item {
    /// Tokens of the longest prompt with an answer.
    #[must_use]
    pub fn window(&self) -> usize {
        let longest = self.choices.iter().chain([&self.answer]).map(Vec::len).max();
        self.prompt.len() + longest.unwrap_or(0)
    }
}

/// The items of a task.
#[derive(Clone, Debug)]
pub struct TaskItems {
    suite: Suite,
    /// Items of a file that may be trained on.
    train: Vec<Item>,
    held_out: Vec<Item>,
}

impl TaskItems {
    /// Draws or reads the held-out items of a task.
    ///
    /// # Errors
    /// [`DataError`] names file and line of an item that is none, one that is longer than `window`
    /// tokens, and a file that is not what the run was planned with.
    pub fn open(task: &Task, window: usize) -> Result<Self, DataError> {
        if let Suite::File { content, held_out } = &task.suite {
            let path = task.path.as_deref().unwrap_or_default();
            let (mut train, mut held) = file::read(path, content, *held_out, window)?;
            if task.fraction == 0.0 {
                // Nothing is trained on, so all of it is unseen.
                held.append(&mut train);
            }
            held.truncate(task.items as usize);
            return Ok(Self { suite: task.suite.clone(), train, held_out: held });
        }
        let held_out = draw_held_out(&task.suite, task.items);
        Ok(Self { suite: task.suite.clone(), train: Vec::new(), held_out })
    }

    /// The items that are scored: distinct, none of them ever trained on. Fewer than asked for
    /// where there are no more.
    #[must_use]
    pub fn held_out(&self) -> &[Item] {
        &self.held_out
    }

    /// Draws an item to train on.
    ///
    /// # Panics
    /// For a suite of which all items are held out, which no recipe can ask for.
    #[must_use]
    pub fn draw(&self, draws: &mut Stream) -> Item {
        if !self.train.is_empty() {
            let index = usize::try_from(draws.below(self.train.len() as u64));
            return self.train[index.expect("below a length")].clone();
        }
        (0..DRAWS_MAX)
            .map(|_| suites::draw(&self.suite, draws))
            .find(|item| !is_held_out(&item.prompt))
            .expect("seven of eight items are not held out")
    }

    /// Fills a training window of `length` tokens with items, each followed by [`END`]; the last
    /// may be cut.
    #[must_use]
    pub fn window(&self, length: usize, draws: &mut Stream) -> Vec<u8> {
        let mut window = Vec::with_capacity(length);
        while window.len() < length {
            let item = self.draw(draws);
            window.extend_from_slice(&item.prompt);
            window.extend_from_slice(&item.answer);
            window.push(END);
        }
        window.truncate(length);
        window
    }
}

fn draw_held_out(suite: &Suite, count: u32) -> Vec<Item> {
    let mut draws = Stream::new(ITEM_SEED, Purpose::Task, 0);
    let mut seen = HashSet::new();
    let mut items = Vec::with_capacity(count as usize);
    for place in 0..count as usize {
        // Choices in turn: where the items of one are few and used up, the rest would be of the
        // other, and always saying so would be right more often than chance.
        let in_turn = |item: &Item| match item.choices.len() {
            0 => true,
            choices => item.answer == item.choices[place % choices],
        };
        let fresh = (0..DRAWS_MAX).map(|_| suites::draw(suite, &mut draws)).find(|item| {
            in_turn(item) && is_held_out(&item.prompt) && !seen.contains(&item.prompt)
        });
        let Some(item) = fresh else { break };
        seen.insert(item.prompt.clone());
        items.push(item);
    }
    items
}

fn is_held_out(prompt: &[u8]) -> bool {
    file::hash_of(prompt).is_multiple_of(HELD_OUT)
}
