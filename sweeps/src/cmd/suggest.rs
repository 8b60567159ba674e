//! `sweep suggest`: the next runs, as a recipe that `sweep submit` takes.

use std::{fmt::Write as _, path::PathBuf};

use serde::Serialize;
use sweep_fit::{Aim, Candidate, CostLaw, Fit, Method, Observation, Spend, Suggestion};
use sweep_spec::{recipe::Recipe, units::si};

use crate::{
    analysis::{cost_law, positive, refused, target::At},
    cmd::{
        export::to_file,
        fit::{Gathered, Origin, What},
    },
    console::{Console, Format},
    exit::{Exit, Failure, OrExit as _},
    output::table::{lines, table},
    recipe_file,
    results::convention_name,
};

/// Arguments of `sweep suggest`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    from: Origin,
    #[command(flatten)]
    what: What,
    /// The forecast that the runs shall sharpen; all constants of the law when absent
    #[arg(long, value_name = "N=..,D=..")]
    at: Option<At>,
    /// Spend at most this many GPU-seconds, by a cost law fitted to the runs' seconds
    #[arg(long, value_name = "SECONDS", value_parser = positive, required_unless_present = "spend_flops")]
    spend_seconds: Option<f64>,
    /// Spend at most this many FLOPs, 6 N D
    #[arg(long, value_name = "FLOPS", value_parser = positive, conflicts_with = "spend_seconds")]
    spend_flops: Option<f64>,
    /// Runs at most
    #[arg(long, default_value_t = 8)]
    runs: usize,
    /// How far sizes and tokens may go beyond the largest so far
    #[arg(long, default_value_t = 4.0, value_name = "FACTOR", value_parser = positive)]
    reach: f64,
    /// The recipe whose data, model and training the runs take; that of the sweep when absent
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Where to write the recipe of the runs; none is written when absent
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs are unlike where their sizes differ by this factor or more; candidates stand on such a
/// ladder.
const STEP: f64 = 1.5;
/// Most candidates: what a ladder over ten decades each way has.
const MAX_CANDIDATES: usize = 10_000;
/// Most runs of one suggestion.
const MAX_RUNS: usize = 1_000;

/// The document.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    law: &'static str,
    aim: String,
    budget: f64,
    unit: &'static str,
    cost: f64,
    error_before: f64,
    error_after: f64,
    runs: Vec<RunTold>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipe: Option<&'a str>,
}

#[derive(Serialize)]
struct RunTold {
    #[serde(rename = "N")]
    n: f64,
    #[serde(rename = "D")]
    d: f64,
    cost: f64,
    seed: u64,
}

/// Fits, chooses and prints.
///
/// # Errors
/// [`Failure`] with 2 for usage, 3 and 4 for the coordinator, 5 for the data.
pub(crate) fn run(args: &Args, console: &mut Console<'_>) -> Result<Exit, Failure> {
    let gathered = args.from.gather(console)?;
    let options = args.what.settle(&gathered, console)?;
    if options.method != Method::Direct || options.law.one_variable() {
        let message = "suggest needs a law of N and D; hint: --law separable --method direct";
        return Err(Failure::message(Exit::Usage, message));
    }
    if args.runs == 0 || args.runs > MAX_RUNS {
        let message = format!("--runs is {}; hint: give 1 to {MAX_RUNS}", args.runs);
        return Err(Failure::message(Exit::Usage, message));
    }
    let base = base_recipe(args, &gathered)?;
    if args.out.is_some() && base.is_none() {
        let message =
            "--out needs a recipe to take data, model and training from; hint: --recipe FILE";
        return Err(Failure::message(Exit::Usage, message));
    }
    let fit = sweep_fit::fit(&gathered.observations, &options).map_err(refused)?;
    let (budget, cost) = match (args.spend_seconds, args.spend_flops) {
        (Some(seconds), _) => (seconds, Some(cost_law(&gathered.basis())?)),
        (None, Some(flops)) => (flops, None),
        (None, None) => unreachable!("clap asks for one of the two"),
    };
    let candidates = candidates(&fit, args.reach, cost.as_ref())?;
    let aim = args.at.map_or(Aim::Constants, |at| Aim::Forecast { n: at.n, d: at.d });
    let spend = Spend { budget, runs: args.runs };
    let found = sweep_fit::suggest(&fit, &aim, &candidates, spend).map_err(refused)?;
    let runs = seeded(&found, base.as_ref(), &gathered);
    let text = base.as_ref().map(|base| recipe_of(base, &runs)).transpose()?;
    if let (Some(path), Some(text)) = (&args.out, &text) {
        to_file(path, |out| out.write_all(text.as_bytes()))?;
    }
    let unit = if cost.is_some() { "GPU-seconds" } else { "FLOPs" };
    let told =
        Told { args, fit: &fit, found: &found, runs: &runs, budget, unit, text: text.as_deref() };
    told.print(console)?;
    if let Some(sweep) = &gathered.sweep {
        let convention = convention_name(sweep.fit_plan().parameters);
        if convention != "total" {
            console.say(format_args!(
                "warning: N counts {convention} parameters, a recipe's sizes total ones; hint: check \
                 the recipe with `sweep plan`"
            ))?;
        }
    }
    if let Some(path) = &args.out {
        let shown = path.display();
        console.say(format_args!(
            "wrote {shown}; next: sweep plan {shown}, then sweep submit {shown}"
        ))?;
    }
    Ok(Exit::Done)
}

/// The recipe that the runs follow: the one named, else the sweep's own.
fn base_recipe(args: &Args, gathered: &Gathered) -> Result<Option<Recipe>, Failure> {
    match (&args.recipe, &gathered.sweep) {
        (Some(path), _) => recipe_file::read(path).map(Some),
        (None, Some(sweep)) => Ok(Some(sweep.recipe.clone())),
        (None, None) => Ok(None),
    }
}

/// Every size with every token count on ladders from the smallest so far to `reach` beyond the
/// largest.
fn candidates(fit: &Fit, reach: f64, cost: Option<&CostLaw>) -> Result<Vec<Candidate>, Failure> {
    let ladder = |pick: &dyn Fn(&Observation) -> Option<f64>| {
        let sizes = fit.points.iter().filter_map(|point| pick(&point.observation));
        let (low, high) = sizes.fold((f64::INFINITY, 0.0_f64), |(l, h), x| (l.min(x), h.max(x)));
        let steps = ((reach.max(1.0) * high / low).ln() / STEP.ln()).floor().max(0.0);
        let mut rungs = Vec::new();
        let mut step = 0.0;
        while step <= steps && rungs.len() <= MAX_CANDIDATES {
            rungs.push(low * STEP.powf(step));
            step += 1.0;
        }
        rungs
    };
    let (sizes, tokens) = (ladder(&|row| row.n), ladder(&Observation::tokens));
    if sizes.len().saturating_mul(tokens.len()) > MAX_CANDIDATES {
        let message =
            format!("--reach {reach} gives more than {MAX_CANDIDATES} candidates; hint: lower it");
        return Err(Failure::message(Exit::Usage, message));
    }
    let cost = |n: f64, d: f64| cost.map_or(6.0 * n * d, |cost| cost.seconds(n, d));
    let all = sizes.iter().flat_map(|n| tokens.iter().map(move |d| (n.round(), d.round())));
    Ok(all.map(|(n, d)| Candidate { n, d, cost: cost(n, d) }).collect())
}

/// A run with the seed that makes it a new one.
struct Seeded {
    run: Candidate,
    seed: u64,
}

/// Seeds beyond those so far, counted up where a run is suggested more than once.
fn seeded(found: &Suggestion, base: Option<&Recipe>, gathered: &Gathered) -> Vec<Seeded> {
    let of_base = base.iter().flat_map(|base| base.requests.iter().map(|request| request.seed));
    let of_sweep =
        gathered.sweep.iter().flat_map(|sweep| sweep.runs.iter().map(|run| run.run.config.seed));
    let first = of_base.chain(of_sweep).max().map_or(0, |seed| seed.saturating_add(1));
    let mut seeded: Vec<Seeded> = Vec::new();
    for run in &found.runs {
        let same = seeded.iter().filter(|other| other.run == *run).count();
        let seed = first.saturating_add(u64::try_from(same).unwrap_or(u64::MAX));
        seeded.push(Seeded { run: *run, seed });
    }
    seeded
}

/// The base recipe with these runs in place of its own; checked by reading it back.
fn recipe_of(base: &Recipe, runs: &[Seeded]) -> Result<String, Failure> {
    let damaged = |error: String| Failure::message(Exit::Failed, error);
    let mut table: toml::Table = base
        .text()
        .parse()
        .map_err(|error: toml::de::Error| damaged(format!("{}: {error}", base.file())))?;
    for key in ["grid", "isoflop", "runs", "check"] {
        table.remove(key);
    }
    table.insert("name".to_owned(), toml::Value::String(next_name(&base.name)));
    let mut text =
        String::from("# Runs chosen by `sweep suggest`; data, model and training as before.\n");
    text += &toml::to_string(&table).or_exit(Exit::Failed)?;
    for Seeded { run, seed } in runs {
        let (n, d) = (run.n, run.d);
        write!(text, "\n[[runs]]\nsize = {n:.0}\ntokens = {d:.0}\nseed = {seed}\n")
            .or_exit(Exit::Failed)?;
    }
    Recipe::parse("the suggested recipe", &text).or_exit(Exit::Failed)?;
    Ok(text)
}

/// `NAME-next`, within the length that a name may have.
fn next_name(name: &str) -> String {
    const SUFFIX: &str = "-next";
    let kept: String = name.chars().take(64 - SUFFIX.len()).collect();
    format!("{kept}{SUFFIX}")
}

/// What is told of a suggestion.
struct Told<'a> {
    args: &'a Args,
    fit: &'a Fit,
    found: &'a Suggestion,
    runs: &'a [Seeded],
    budget: f64,
    unit: &'static str,
    text: Option<&'a str>,
}

impl Told<'_> {
    fn aim(&self) -> String {
        self.args.at.map_or_else(
            || "all constants".to_owned(),
            |at| format!("loss at N {} D {}", si(at.n), si(at.d)),
        )
    }

    fn print(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        match console.format {
            Format::Json => console.json(&self.document())?,
            Format::Quiet => {
                for Seeded { run, .. } in self.runs {
                    writeln!(console.out, "{:.0} {:.0}", run.n, run.d)?;
                }
            }
            Format::Table => self.table(console)?,
        }
        Ok(())
    }

    fn document(&self) -> Document<'_> {
        let told = |Seeded { run, seed }: &Seeded| RunTold {
            n: run.n,
            d: run.d,
            cost: run.cost,
            seed: *seed,
        };
        Document {
            schema: "sweep.suggested/1",
            law: self.fit.law_name(),
            aim: self.aim(),
            budget: self.budget,
            unit: self.unit,
            cost: self.found.cost,
            error_before: self.found.before,
            error_after: self.found.after,
            runs: self.runs.iter().map(told).collect(),
            recipe: self.text,
        }
    }

    fn table(&self, console: &mut Console<'_>) -> Result<(), Failure> {
        let unit = self.unit;
        writeln!(
            console.out,
            "{} runs for {} under the law {}; {:.3e} of {:.3e} {unit}",
            self.runs.len(),
            self.aim(),
            self.fit.law_name(),
            self.found.cost,
            self.budget
        )?;
        let mut rows = table(&["N", "D", "D/N", unit, "seed"], &[]);
        for Seeded { run, seed } in self.runs {
            rows.add_row([
                si(run.n),
                si(run.d),
                si(run.d / run.n),
                format!("{:.3e}", run.cost),
                seed.to_string(),
            ]);
        }
        writeln!(console.out, "{}", lines(&rows))?;
        let what = if self.args.at.is_some() {
            "of the forecast's logarithm"
        } else {
            "of a constant, mean"
        };
        writeln!(
            console.out,
            "standard error {what}: {:.3e} now, {:.3e} after them if they scatter alike",
            self.found.before, self.found.after
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "name = \"base\"\n[data]\nsource = \"synthetic\"\nvocabulary = 64\n\
                        entropy = 2.0\ncontexts = 8\ntokens = \"1M\"\n[model]\nsequence = 8\n\
                        [training]\nbatch = 1\nlearning_rate = 0.1\n[grid]\nsizes = [\"20k\"]\n\
                        tokens = [\"10k\"]\nseeds = [0, 3]\n";

    #[test]
    fn a_suggestion_reads_as_a_recipe_of_new_runs() {
        let base = Recipe::parse("base.toml", BASE).expect("valid");
        let run = Candidate { n: 3e4, d: 2e4, cost: 1.0 };
        let found = Suggestion { runs: vec![run, run], cost: 2.0, before: 1.0, after: 0.5 };
        let gathered = Gathered {
            observations: Vec::new(),
            seconds: Vec::new(),
            base: sweep_fit::Options::default(),
            origin: String::new(),
            sweep: None,
        };
        let runs = seeded(&found, Some(&base), &gathered);
        assert_eq!(runs.iter().map(|run| run.seed).collect::<Vec<_>>(), [4, 5]);
        let text = recipe_of(&base, &runs).expect("a recipe");
        let read = Recipe::parse("next.toml", &text).expect("valid");
        assert_eq!(read.name, "base-next");
        assert_eq!(read.requests.len(), 2);
        assert_eq!(read.data, base.data);
        assert_eq!(next_name(&"x".repeat(64)).len(), 64);
    }
}
