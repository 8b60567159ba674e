//! The metrics of tasks: for each task of a recipe, by its place, the same scores; for the
//! held-out text, place 0, those of next-token prediction.
//!
//! The scores of a calibration are sums over bins of confidence, so that a reliability diagram,
//! its error and its interval can be made later without the items.

use std::sync::LazyLock;

use super::Direction;
use crate::task::MAX_TASKS;

/// Bins of confidence: [0, 0.1), ..., [0.9, 1].
pub const BINS: usize = 10;

/// A score of a task at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskScore {
    /// Share of items answered right to the last token, by greedy decoding or, where an item has
    /// choices, by the most probable choice.
    ExactMatch,
    /// Mean of -ln p of the right answer: nats per answer; among the choices where there are some.
    AnswerNats,
    /// Mean share of the answer's tokens that are the most probable one after the right ones
    /// before.
    TokenAccuracy,
    /// Mean of Levenshtein's distance from the greedy answer to the right one over the longer
    /// length: 0 to 1.
    EditDistance,
    /// Mean squared difference of confidence and being right: 0 to 1.
    Brier,
    /// Items scored; 1 / items is the smallest rate that the exact match can show.
    Items,
    /// Mean tokens of an answer.
    AnswerTokens,
    /// Items in a bin of confidence, from 0.
    BinCount(u8),
    /// Those of them that are right.
    BinRight(u8),
    /// Mean confidence of the items in the bin; absent for an empty one.
    BinConfidence(u8),
}

/// Scores before the bins.
const SCALARS: usize = 7;

impl TaskScore {
    /// Number of scores.
    pub const COUNT: usize = SCALARS + 3 * BINS;

    #[expect(clippy::cast_possible_truncation, reason = "a bin is below 10")]
    const fn at(index: usize) -> Self {
        let bin = (index.saturating_sub(SCALARS) / 3) as u8;
        match index {
            0 => Self::ExactMatch,
            1 => Self::AnswerNats,
            2 => Self::TokenAccuracy,
            3 => Self::EditDistance,
            4 => Self::Brier,
            5 => Self::Items,
            6 => Self::AnswerTokens,
            _ => match (index - SCALARS) % 3 {
                0 => Self::BinCount(bin),
                1 => Self::BinRight(bin),
                _ => Self::BinConfidence(bin),
            },
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::ExactMatch => 0,
            Self::AnswerNats => 1,
            Self::TokenAccuracy => 2,
            Self::EditDistance => 3,
            Self::Brier => 4,
            Self::Items => 5,
            Self::AnswerTokens => 6,
            Self::BinCount(bin) => SCALARS + 3 * bin as usize,
            Self::BinRight(bin) => SCALARS + 3 * bin as usize + 1,
            Self::BinConfidence(bin) => SCALARS + 3 * bin as usize + 2,
        }
    }

    fn name(self) -> String {
        match self {
            Self::ExactMatch => "exact_match".to_owned(),
            Self::AnswerNats => "answer_nats".to_owned(),
            Self::TokenAccuracy => "token_accuracy".to_owned(),
            Self::EditDistance => "edit_distance".to_owned(),
            Self::Brier => "brier".to_owned(),
            Self::Items => "items".to_owned(),
            Self::AnswerTokens => "answer_tokens".to_owned(),
            Self::BinCount(bin) => format!("bin/{bin}/count"),
            Self::BinRight(bin) => format!("bin/{bin}/right"),
            Self::BinConfidence(bin) => format!("bin/{bin}/confidence"),
        }
    }

    /// Its unit.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::AnswerNats => "nats/answer",
            Self::Items | Self::BinCount(_) | Self::BinRight(_) => "items",
            Self::AnswerTokens => "tokens/answer",
            _ => "1",
        }
    }

    /// Which way is better.
    #[must_use]
    pub const fn direction(self) -> Direction {
        match self {
            Self::ExactMatch | Self::TokenAccuracy => Direction::Up,
            Self::AnswerNats | Self::EditDistance | Self::Brier => Direction::Down,
            _ => Direction::None,
        }
    }
}

/// A score of one task: the held-out text (0) or a task of the recipe by its place, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskMetric(u16);

impl TaskMetric {
    /// Number of such metrics.
    pub const COUNT: usize = (MAX_TASKS + 1) * TaskScore::COUNT;

    /// The place of the held-out text.
    pub const TEXT: u8 = 0;

    /// A score of the task at this place.
    ///
    /// # Panics
    /// For a place above [`MAX_TASKS`].
    #[must_use]
    pub const fn new(task: u8, score: TaskScore) -> Self {
        assert!(task as usize <= MAX_TASKS, "a recipe has at most MAX_TASKS tasks");
        Self::at(task as usize * TaskScore::COUNT + score.index())
    }

    /// The metric with this number.
    #[expect(clippy::cast_possible_truncation, reason = "there are fewer than 1,000")]
    pub(super) const fn at(index: usize) -> Self {
        assert!(index < Self::COUNT, "an index of a metric");
        Self(index as u16)
    }

    /// Its number, from 0: stored, so it never changes.
    #[must_use]
    pub const fn index(self) -> u16 {
        self.0
    }

    /// The place of the task.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a place is at most 12")]
    pub const fn task(self) -> u8 {
        (self.0 as usize / TaskScore::COUNT) as u8
    }

    /// The score.
    #[must_use]
    pub const fn score(self) -> TaskScore {
        TaskScore::at(self.0 as usize % TaskScore::COUNT)
    }

    /// `task/1/exact_match`, `text/bin/9/count`.
    pub(super) fn name(self) -> &'static str {
        static NAMES: LazyLock<Vec<String>> = LazyLock::new(|| {
            let name = |index: usize| {
                let metric = TaskMetric::at(index);
                match metric.task() {
                    TaskMetric::TEXT => format!("text/{}", metric.score().name()),
                    task => format!("task/{task}/{}", metric.score().name()),
                }
            };
            (0..TaskMetric::COUNT).map(name).collect()
        });
        &NAMES[usize::from(self.0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_and_stay() {
        for index in 0..TaskMetric::COUNT {
            let metric = TaskMetric::at(index);
            assert_eq!(TaskMetric::new(metric.task(), metric.score()), metric);
        }
        // Stored in databases: a change here would rename what is there.
        assert_eq!(TaskMetric::new(1, TaskScore::ExactMatch).index(), 37);
        assert_eq!(TaskMetric::new(2, TaskScore::BinConfidence(9)).index(), 110);
        assert_eq!(
            TaskMetric::new(2, TaskScore::BinConfidence(9)).name(),
            "task/2/bin/9/confidence"
        );
        assert_eq!(TaskMetric::new(0, TaskScore::Brier).name(), "text/brier");
    }
}
