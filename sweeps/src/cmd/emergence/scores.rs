//! Scores of one or more metrics of a task, and what is asked of them.

use sweep_fit::{
    Observation, Options,
    emergence::{
        self, Axis, ByLength, ChainForecast, Scale, Scored, TaskRow, Verdict, assess, contrast,
    },
};

use super::{Args, Assessed, MetricTold};
use crate::{
    analysis::{refused, target::At},
    exit::{Exit, Failure},
    results::SweepResults,
    scores,
    source::Read,
};

/// Rows of scores.
pub(super) struct Scores<'a> {
    args: &'a Args,
    observations: Vec<Observation>,
    /// For each row the metrics, then the soft score, then the token accuracy, where they are.
    columns: Vec<Vec<Option<f64>>>,
    has_loss: bool,
    metrics: Vec<String>,
    soft: Option<String>,
    /// Tokens of an answer, where token accuracy is known.
    length: Option<f64>,
    items: Option<u64>,
    chance: Option<f64>,
    /// Whether every axis was asked for, so that one without a verdict is a refusal.
    strict: bool,
}

impl<'a> Scores<'a> {
    /// The rows of a table.
    pub(super) fn of_table(args: &'a Args, read: Read, has_loss: bool) -> Self {
        Self {
            args,
            observations: read.observations,
            columns: read.extras,
            has_loss,
            metrics: args.metrics.clone(),
            soft: args.soft.clone(),
            length: args.length,
            items: args.items,
            chance: args.chance,
            strict: true,
        }
    }

    /// The tasks of a sweep, each with the exact match of its finished runs, the log-probability of
    /// the right answer and the token accuracy.
    pub(super) fn of_sweep(args: &'a Args, results: &SweepResults) -> Vec<Self> {
        let convention = results.fit_plan().parameters;
        scores::scored(results)
            .map(|(task, scored)| {
                let (mut observations, mut columns) = (Vec::new(), Vec::new());
                // Every run answers the same items.
                let asked = scored.first().map(|(_, score)| (score.items, score.answer_tokens));
                for (run, score) in &scored {
                    let Some(loss) = run.usable_loss() else { continue };
                    // C is 6 N D, as in the figures.
                    let sizes = run.sizes(convention, loss);
                    observations.push(Observation { flops: None, ..sizes });
                    let soft = -score.answer_nats;
                    columns.push(vec![
                        Some(score.exact_match),
                        Some(soft),
                        Some(score.token_accuracy),
                    ]);
                }
                Self {
                    args,
                    observations,
                    columns,
                    has_loss: true,
                    metrics: vec![format!("exact match of {}", task.name)],
                    soft: Some("log-probability of the answer".to_owned()),
                    length: asked.map(|(_, tokens)| tokens),
                    items: asked.map(|(items, _)| items),
                    chance: task.suite.chance(),
                    strict: false,
                }
            })
            .collect()
    }

    /// Rows.
    pub(super) fn len(&self) -> usize {
        self.observations.len()
    }

    /// Every metric on every axis that is known. What a sweep has too little for is left out and told
    /// in `skipped`: its axes were not asked for one by one.
    ///
    /// # Errors
    /// Exit code 2 where no axis is, 5 for the data.
    pub(super) fn told(&self, skipped: &mut Vec<String>) -> Result<Vec<MetricTold>, Failure> {
        if self.observations.is_empty() && !self.strict {
            skipped.push(format!("{}: no finished run has scores", self.metrics.join(", ")));
            return Ok(Vec::new());
        }
        let axes = self.axes()?;
        let mut told = Vec::new();
        for column in 0..self.metrics.len() {
            told.extend(self.metric(column, &axes, skipped)?);
        }
        Ok(told)
    }

    /// The axes that are mapped.
    fn axes(&self) -> Result<Vec<Axis>, Failure> {
        let axes: Vec<Axis> = [Axis::Compute, Axis::Parameters, Axis::Tokens, Axis::Loss]
            .into_iter()
            .filter(|axis| self.observations.iter().any(|row| self.place(*axis, row).is_some()))
            .collect();
        if self.observations.is_empty() {
            return Err(refused(sweep_fit::FitError::Empty));
        }
        if axes.is_empty() {
            let message =
                "no axis is mapped; hint: --map C=COLUMN, N=COLUMN, D=COLUMN or loss=COLUMN";
            return Err(Failure::message(Exit::Usage, message));
        }
        Ok(axes)
    }

    fn place(&self, axis: Axis, row: &Observation) -> Option<f64> {
        match axis {
            Axis::Compute => row.compute(),
            Axis::Parameters => row.n,
            Axis::Tokens => row.d,
            Axis::Loss => self.has_loss.then_some(row.loss),
        }
    }

    /// Rows with this column, which counts from the first metric.
    fn rows(&self, column: usize) -> impl Iterator<Item = (usize, &Observation, f64)> {
        let rows = self.observations.iter().zip(&self.columns).enumerate();
        rows.filter_map(move |(index, (row, extras))| Some((index, row, extras[column]?)))
    }

    fn scored(&self, column: usize, axis: Axis, items: Option<u64>) -> Vec<Scored> {
        let rows = self.rows(column);
        rows.filter_map(|(_, row, score)| Some(Scored { x: self.place(axis, row)?, score, items }))
            .collect()
    }

    fn metric(
        &self,
        column: usize,
        axes: &[Axis],
        skipped: &mut Vec<String>,
    ) -> Result<Option<MetricTold>, Failure> {
        let name = &self.metrics[column];
        let scale = Scale { chance: self.chance };
        let mut told = Vec::new();
        for &axis in axes {
            let points = self.scored(column, axis, self.items);
            let found = match assess(axis, &points, scale) {
                Ok(found) => found,
                Err(error) if self.strict => return Err(refused(error)),
                Err(error) => {
                    skipped.push(format!("{name} against {}: {error}", axis.name()));
                    continue;
                }
            };
            let contrast = self.contrast((name, found.verdict), axis)?;
            told.push(Assessed { sentence: found.sentence(name), contrast, found });
        }
        if told.is_empty() {
            return Ok(None);
        }
        Ok(Some(MetricTold {
            metric: name.clone(),
            size_beyond_loss_p: self.size_beyond_loss(column, &told),
            by_length: self.by_length(column),
            forecast: self.forecast(column)?,
            axes: told,
        }))
    }

    fn soft_column(&self) -> Option<usize> {
        self.soft.as_ref().map(|_| self.metrics.len())
    }

    /// What a metric with its verdict says together with the soft score on the same axis.
    fn contrast(&self, hard: (&str, Verdict), axis: Axis) -> Result<Option<String>, Failure> {
        let (Some(column), Some(soft)) = (self.soft_column(), &self.soft) else {
            return Ok(None);
        };
        // A soft score has neither items nor a chance level.
        let points = self.scored(column, axis, None);
        let found = assess(axis, &points, Scale::default()).map_err(refused)?;
        Ok(Some(contrast(hard, (soft, found.verdict))))
    }

    fn size_beyond_loss(&self, column: usize, told: &[Assessed]) -> Option<f64> {
        let against = told.iter().find(|assessed| assessed.found.axis == Axis::Loss)?;
        let rows: Vec<(f64, f64, f64)> =
            self.rows(column).filter_map(|(_, row, y)| Some((row.loss, row.n?.ln(), y))).collect();
        let points: Vec<Scored> =
            rows.iter().map(|row| Scored { x: row.0, score: row.2, items: None }).collect();
        let residuals = against.found.residuals(&points)?;
        let sizes: Vec<f64> = rows.iter().map(|row| row.1).collect();
        emergence::size_matters(&residuals, &sizes, self.args.seed)
    }

    fn by_length(&self, column: usize) -> Option<ByLength> {
        let length = self.length?;
        let token = self.metrics.len() + usize::from(self.soft.is_some());
        let pairs: Vec<(f64, f64)> = self
            .rows(column)
            .filter_map(|(index, _, score)| Some((self.columns[index][token]?, score)))
            .collect();
        emergence::by_length(&pairs, length)
    }

    fn forecast(&self, column: usize) -> Result<Option<ChainForecast>, Failure> {
        let args = self.args;
        let (loss, draws) = match (args.at_loss, args.at) {
            (None, None) => return Ok(None),
            (Some(loss), _) => (loss, Vec::new()),
            (None, Some(at)) => self.loss_at(at)?,
        };
        if !self.has_loss {
            let message = "a forecast needs the loss of each row; hint: --map loss=COLUMN";
            return Err(Failure::message(Exit::Usage, message));
        }
        let soft = self.soft_column();
        let rows: Vec<TaskRow> = self
            .rows(column)
            .map(|(index, row, score)| TaskRow {
                loss: row.loss,
                soft: soft.and_then(|soft| self.columns[index][soft]),
                score,
                group: row.group.clone(),
            })
            .collect();
        emergence::chain(&rows, loss, &draws, args.bootstrap, args.seed).map(Some).map_err(refused)
    }

    /// The loss of a run by a separable law over the table, with draws of it.
    fn loss_at(&self, at: At) -> Result<(f64, Vec<f64>), Failure> {
        if !self.has_loss {
            let message = "--at needs the loss of each row; hint: --map loss=COLUMN";
            return Err(Failure::message(Exit::Usage, message));
        }
        let options = Options {
            bootstrap: if self.args.bootstrap > 1 { self.args.bootstrap } else { 0 },
            seed: self.args.seed,
            ..Options::default()
        };
        let fit = sweep_fit::fit(&self.observations, &options).map_err(refused)?;
        let sizes = Observation::new(at.n, at.d, 1.0);
        let loss = fit.predict(at.n, at.d).ok_or_else(|| {
            Failure::message(Exit::FitRefused, "the law gives no loss at --at; hint: check N and D")
        })?;
        let draws = fit.replicates.iter().filter_map(|values| fit.law.loss(values, &sizes));
        Ok((loss, draws.filter(|loss| loss.is_finite()).collect()))
    }
}
