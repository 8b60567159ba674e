//! One observation: what a finished training (or a checkpoint of it) tells a law.
//!
//! Where it came from (a file, a store) is not known here; `line` is only carried for messages.

use crate::{error::FitError, law::Law};

/// Sizes and loss of one training. What was not measured or not mapped is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// Parameters, under one convention for the whole table.
    pub n: Option<f64>,
    /// Tokens seen, repeats counted.
    pub d: Option<f64>,
    /// Positions of the model that one unit of D goes through: 1 for tokens, and where absent; its
    /// patches for an image.
    pub positions: Option<f64>,
    /// Training FLOPs.
    pub flops: Option<f64>,
    /// Loss in nats per token, or whatever else the table measures on one scale.
    pub loss: f64,
    /// Unique tokens.
    pub unique: Option<f64>,
    /// The run that this observation is a checkpoint of; observations of one run are resampled
    /// together.
    pub group: Option<String>,
    /// The FLOP budget that the run was planned for, where it differs from `flops` by rounding.
    pub budget: Option<f64>,
    /// Standard deviation of the loss over seeds, in its own unit.
    pub noise: Option<f64>,
    /// How `n` counts parameters: `total`, `non-embedding` or `with-head`.
    pub convention: Option<String>,
    /// Line of the table it was read from, the header being line 1.
    pub line: Option<u64>,
}

impl Observation {
    /// An observation of sizes and loss alone.
    #[must_use]
    pub fn new(n: f64, d: f64, loss: f64) -> Self {
        Self { n: Some(n), d: Some(d), loss, ..Self::default() }
    }

    /// Tokens seen; where they are not known, those that C = 6 N D gives.
    #[must_use]
    pub fn tokens(&self) -> Option<f64> {
        self.d.or_else(|| Some(self.flops? / (6.0 * self.n?)))
    }

    /// Training compute: measured where known, else 6 N D.
    #[must_use]
    pub fn compute(&self) -> Option<f64> {
        self.flops.or_else(|| Some(6.0 * self.n? * self.d?))
    }

    /// The one variable of a one-variable law: the single one of N, D, C that is there.
    #[must_use]
    pub fn single(&self) -> Option<f64> {
        match (self.n, self.d, self.flops) {
            (Some(x), None, None) | (None, Some(x), None) | (None, None, Some(x)) => Some(x),
            _ => None,
        }
    }

    /// What orders observations for a held-out top: compute, or the one variable.
    pub(crate) fn scale(&self, law: Option<Law>) -> Option<f64> {
        if law.is_some_and(Law::one_variable) { self.single() } else { self.compute() }
    }

    /// How messages name this observation: its line, or its place in the list.
    pub(crate) fn place(&self, index: usize) -> String {
        self.line
            .map_or_else(|| format!("observation {}", index + 1), |line| format!("line {line}"))
    }
}

/// Refuses rows that no law can use, all of them in one message.
pub(crate) fn check_rows(observations: &[Observation]) -> Result<(), FitError> {
    let mut bad = Vec::new();
    for (index, row) in observations.iter().enumerate() {
        let cells = [
            ("N", row.n),
            ("D", row.d),
            ("C", row.flops),
            ("U", row.unique),
            ("noise", row.noise),
            ("loss", Some(row.loss)),
        ];
        for (name, value) in cells {
            if let Some(value) = value.filter(|v| !(v.is_finite() && *v > 0.0)) {
                bad.push(format!("{}: {name} is {value}", row.place(index)));
            }
        }
    }
    if bad.is_empty() { Ok(()) } else { Err(FitError::BadRows(bad)) }
}
