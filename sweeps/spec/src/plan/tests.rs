use super::*;
use crate::{id::DataId, recipe::Recipe};

pub(crate) const RECIPE: &str = r#"
name = "small"

[data]
source = "text"
globs = ["texts/*.txt"]

[model]
sequence = 64

[training]
batch = 16
learning_rate = 0.01

[grid]
sizes = ["13k", "41k", "131k"]
tokens = ["250k", "500k", "1M"]

[[check]]
size = "380k"
tokens = "2M"
"#;

fn manifest(train_tokens: u64) -> DataManifest {
    DataManifest {
        id: DataId::from_hash(&blake3::hash(b"texts")),
        vocabulary: 256,
        train_tokens,
        validation_tokens: 200_000,
        bytes_per_token: Some(1.0),
        train_documents: 90,
        validation_documents: 10,
        entropy: None,
        image: None,
    }
}

fn plan(text: &str, train_tokens: u64, kinds: &[DeviceKind]) -> Plan {
    let recipe = Recipe::parse("recipe.toml", text).expect("valid");
    let manifest = manifest(train_tokens);
    let grid = crate::grid::expand(&recipe, &manifest).expect("expands");
    Plan::new(&recipe, &grid, &manifest, &CostModel::default(), kinds).expect("plans")
}

fn cpu(memory_bytes: u64) -> DeviceKind {
    DeviceKind { name: "AMD EPYC".to_owned(), slots: 2, memory_bytes: Some(memory_bytes) }
}

fn codes(plan: &Plan) -> Vec<&'static str> {
    plan.warnings.iter().map(|warning| warning.code).collect()
}

#[test]
fn a_sound_grid_has_no_warning_and_exact_counts() {
    let plan = plan(RECIPE, 10_000_000, &[cpu(4 << 30)]);
    assert_eq!(codes(&plan), Vec::<&str>::new());
    assert_eq!((plan.totals.runs, plan.totals.checks), (10, 1));
    // 41k resolves to width 32, 2 layers: 41,120 parameters and 221,568 FLOPs per token by hand;
    // 250k tokens are 244.14 steps of 1024.
    let run = plan.runs.iter().find(|run| run.parameters.total == 41_120).expect("planned");
    assert_eq!((run.steps, run.tokens), (244, 249_856));
    assert_eq!(run.flops, 221_568.0 * 249_856.0);
    assert_eq!(run.flops_6nd, 6.0 * 41_120.0 * 249_856.0);
    let device = &plan.devices[0];
    let (all, wall) = (device.device_seconds.expect("known"), device.wall_seconds.expect("known"));
    assert!(wall < all && wall >= all / 2.0, "{wall} of {all}");
}

#[test]
fn data_seen_again_is_named_with_its_epochs() {
    let plan = plan(RECIPE, 600_000, &[]);
    assert_eq!(codes(&plan), ["repeated-data"]);
    assert_eq!(
        plan.warnings[0].message,
        "4 of 10 runs see data again, up to 3.33 epochs of 600k unique tokens; hint: add data \
         where fresh tokens matter; up to about 4 epochs are close to fresh data"
    );
}

#[test]
fn short_runs_are_named() {
    let text = RECIPE.replace("\"250k\"", "\"50k\"");
    let plan = plan(&text, 10_000_000, &[]);
    assert_eq!(codes(&plan), ["few-steps"]);
    assert_eq!(
        plan.warnings[0].message,
        "3 of 10 runs see fewer than 100 optimiser steps, the shortest 49; hint: lower \
         `training.batch`, or raise the smallest token count"
    );
}

#[test]
fn short_runs_of_a_budget_are_named_with_it() {
    let start = RECIPE.find("[grid]").expect("has a grid");
    let budgets =
        "[isoflop]\nbudgets = [\"5e9\", \"1e12\"]\nsizes = [\"13k\", \"41k\", \"131k\"]\n";
    let plan = plan(&format!("{}{budgets}", &RECIPE[..start]), 100_000_000, &[]);
    assert!(codes(&plan).contains(&"few-steps"), "{:?}", plan.warnings);
    let message = &plan.warnings[0].message;
    assert!(message.contains("3 of 6 runs (3 at 5e9) see fewer"), "{message}");
    assert!(message.ends_with("raise the smallest budget, or drop its largest sizes"), "{message}");
}

#[test]
fn what_stays_on_disks_is_counted() {
    let start = RECIPE.find("[grid]").expect("has a grid");
    let one = "[evaluation]\ntimes = 5\n[[runs]]\nsize = \"41k\"\ntokens = \"250k\"\n";
    let plan = plan(&format!("{}{one}", &RECIPE[..start]), 10_000_000, &[]);
    let Storage { checkpoint_bytes, points, point_bytes } = plan.storage;
    // Two checkpoints of 41,120 parameters, each three times in f32.
    assert_eq!(checkpoint_bytes, 2 * 3 * 4 * 41_120);
    // 244 steps, a report of seven metrics at each; five evaluations in nats and in bits.
    assert_eq!((points, point_bytes), (244 * 7 + 5 * 2, 24 * points));
}

#[test]
fn a_diagonal_design_is_collinear() {
    let runs = ["13k", "41k", "131k", "380k", "860k", "2M"]
        .iter()
        .enumerate()
        .map(|(place, size)| {
            let tokens = [280, 822, 2630, 7636, 17_060, 39_000][place];
            format!("[[runs]]\nsize = \"{size}\"\ntokens = \"{tokens}k\"\n")
        })
        .collect::<String>();
    let start = RECIPE.find("[grid]").expect("has a grid");
    let plan = plan(&format!("{}{runs}", &RECIPE[..start]), 100_000_000, &[]);
    assert_eq!(codes(&plan), ["collinear-design"], "{:?}", plan.warnings);
}

#[test]
fn two_sizes_are_too_few() {
    let text = RECIPE.replace("\"13k\", ", "");
    assert_eq!(codes(&plan(&text, 10_000_000, &[])), ["few-observations"]);
}

#[test]
fn slots_share_the_memory_of_their_device() {
    assert_eq!(slot_memory_bytes(8 << 30, 1), 8 << 30);
    assert_eq!(slot_memory_bytes(8 << 30, 4), 2 << 30);
    assert_eq!(slot_memory_bytes(8 << 30, 0), 8 << 30, "a device without slots is nobody's");
    let largest = largest_estimate(1000);
    assert_eq!(largest, 900);
    assert!(suffices(largest, 1000) && !suffices(largest + 1, 1000));
}

#[test]
fn a_run_beyond_the_memory_of_a_slot_is_named() {
    let plan = plan(RECIPE, 10_000_000, &[cpu(64 << 20)]);
    assert!(codes(&plan).contains(&"memory"), "{:?}", plan.warnings);
    let suffices = plan.devices[0].runs_in_memory.expect("known");
    assert!(suffices < plan.totals.runs, "{suffices}");
}

#[test]
fn a_tensor_beyond_the_limit_is_refused_with_its_place() {
    let text = RECIPE.replace("batch = 16", "batch = 65536").replace("250k", "500M");
    let recipe = Recipe::parse("recipe.toml", &text).expect("valid");
    let manifest = manifest(1 << 40);
    let grid = crate::grid::expand(&recipe, &manifest).expect("expands");
    let error = Plan::new(&recipe, &grid, &manifest, &CostModel::default(), &[])
        .expect_err("beyond the limit");
    insta::assert_snapshot!(error.to_string(), @"recipe.toml:12:9: training.batch: a run of 14416 parameters needs a tensor of 4294967296 bytes, more than the limit of 2147483648; hint: lower `training.batch` or `model.sequence`");
}

#[test]
fn an_unknown_device_has_no_seconds() {
    let kind = DeviceKind { name: "Voodoo 2".to_owned(), slots: 1, memory_bytes: None };
    let plan = plan(RECIPE, 10_000_000, &[kind]);
    assert_eq!(plan.devices[0].device_seconds, None);
    assert_eq!(plan.devices[0].wall_seconds, None);
    assert_eq!(plan.devices[0].runs_in_memory, None);
}

#[test]
fn a_trunk_is_paid_once_and_the_saving_is_stated() {
    let text = RECIPE.replace("batch = 16", "batch = 16\nwarmup_steps = 20\ntrunk = true");
    let (alone, plan) =
        (plan(RECIPE, 10_000_000, &[cpu(4 << 30)]), plan(&text, 10_000_000, &[cpu(4 << 30)]));
    assert_eq!((plan.totals.runs, plan.totals.trunks, plan.totals.checks), (13, 3, 1));
    assert_eq!(plan.totals.flops_alone, alone.totals.flops);
    assert_eq!(alone.totals.flops_alone, alone.totals.flops);
    // By hand, per size in steps: the trunk ends at 782 of 977 steps, the three cool-downs have
    // 49, 98 and 195; alone they are 244, 488 and 977 steps. The check is trained alone.
    let share = |plan: &Plan| {
        let fit = plan.runs.iter().filter(|run| run.role != RunRole::Check);
        fit.map(|run| run.own_flops).sum::<f64>()
    };
    let expected = f64::from(782 + 49 + 98 + 195) / f64::from(244 + 488 + 977);
    assert!((share(&plan) / share(&alone) - expected).abs() < 1e-12);
    let seconds = |plan: &Plan| plan.devices[0].device_seconds.expect("known");
    assert!(seconds(&plan) < seconds(&alone));
    // Warnings are about observations: no trunk among them.
    assert_eq!(codes(&plan), codes(&alone));
}

#[test]
fn runs_at_other_rates_are_paid_and_are_no_observations() {
    let rates = "[sensitivity]\nrate_factors = [0.5, 2]\nsizes = [\"131k\"]\ntokens = [\"1M\"]\n";
    let plain = plan(RECIPE, 10_000_000, &[cpu(4 << 30)]);
    let more = plan(&format!("{RECIPE}{rates}"), 10_000_000, &[cpu(4 << 30)]);
    assert_eq!((more.totals.runs, more.totals.checks, more.totals.sensitivity), (12, 1, 2));
    assert_eq!(plain.totals.sensitivity, 0);
    // The largest run of the grid, twice more.
    let largest = plain.runs.iter().find(|run| run.tokens > 990_000 && run.flops > 5e11);
    let largest = largest.expect("of the grid").flops;
    assert_eq!(more.totals.flops, plain.totals.flops + 2.0 * largest);
    let seconds = |plan: &Plan| plan.devices[0].device_seconds.expect("known");
    assert!(seconds(&more) > seconds(&plain));
    assert_eq!(codes(&more), codes(&plain));
    // A grid too small for a law is not made larger by them.
    let few = RECIPE.replace("[\"250k\", \"500k\", \"1M\"]", "[\"1M\"]");
    assert!(codes(&plan(&format!("{few}{rates}"), 10_000_000, &[])).contains(&"few-observations"));
}
