use super::*;
use crate::{id::DataId, recipe::Recipe, shape::Mlp};

const HEAD: &str = r#"
name = "small"

[data]
source = "text"
globs = ["texts/*.txt"]

[model]
sequence = 64

[training]
batch = 16
learning_rate = 0.01
"#;

fn manifest() -> DataManifest {
    DataManifest {
        id: DataId::from_hash(&blake3::hash(b"texts")),
        vocabulary: 256,
        train_tokens: 10_000_000,
        validation_tokens: 200_000,
        bytes_per_token: Some(1.0),
        train_documents: 90,
        validation_documents: 10,
        entropy: None,
    }
}

fn grid(tail: &str) -> Result<Grid, RecipeError> {
    grid_of(&format!("{HEAD}{tail}"))
}

fn grid_of(text: &str) -> Result<Grid, RecipeError> {
    expand(&Recipe::parse("recipe.toml", text).expect("valid"), &manifest())
}

fn ids(grid: &Grid) -> Vec<RunId> {
    grid.runs.iter().map(|entry| entry.run.config.id()).collect()
}

const GRID: &str = "[grid]\nsizes = [\"41k\", \"131k\"]\ntokens = [\"250k\", \"500k\"]\n";

/// This id may change only together with `TRAINING_REVISION`, or every sweep on disk is trained
/// again.
#[test]
fn the_id_of_a_run_is_golden() {
    let first = &grid(GRID).expect("expands").runs[0].run.config;
    insta::assert_snapshot!(first.canonical_json(), @r#"{"batch":16,"data":"29a96bc9a4557cc357a9914627805410","optimizer":{"base_width":64,"beta1":0.9,"beta2":0.95,"clip_norm":1.0,"epsilon":1e-8,"learning_rate":0.01,"weight_decay":0.1},"schedule":{"decay":{"wsd":{"fraction":0.2}},"warmup_fraction":0.1,"warmup_steps":100},"seed":0,"shape":{"lm":{"heads":2,"layers":2,"sequence":64,"vocabulary":256,"width":32}},"steps":244,"training_revision":2}"#);
    insta::assert_snapshot!(first.id(), @"db61ebbd861f3d86f5761beb80374ee7");
}

#[test]
fn a_key_at_its_default_leaves_ids_alone() {
    let plain = grid(GRID).expect("expands");
    let spelled = HEAD
        .replace("sequence = 64", "sequence = 64\nfamily = \"lm\"\nmlp = \"relu2\"\naspect = 32")
        .replace("batch = 16", "batch = 16\nbeta2 = 0.95\nschedule = { wsd = { fraction = 0.2 } }");
    let spelled = grid_of(&format!("{spelled}{GRID}seeds = [0]\n")).expect("expands");
    assert_eq!(ids(&plain), ids(&spelled));
    assert_eq!(plain.sweep_id("small"), spelled.sweep_id("small"));
    assert!(!plain.runs[0].run.config.canonical_json().contains("parent"));
}

#[test]
fn what_changes_weights_changes_ids_and_nothing_else_does() {
    let base = ids(&grid(GRID).expect("expands"));
    for (from, to) in [("0.01", "0.02"), ("batch = 16", "batch = 8"), ("= 64", "= 32")] {
        let text = format!("{}{GRID}", HEAD.replace(from, to));
        let changed = ids(&grid_of(&text).expect("expands"));
        assert!(base.iter().all(|id| !changed.contains(id)), "{from} to {to}");
    }
    let evaluated = format!("{HEAD}[evaluation]\ntimes = 3\n{GRID}");
    assert_eq!(ids(&grid_of(&evaluated).expect("expands")), base);
    let renamed = format!("{}{GRID}", HEAD.replace("\"small\"", "\"other\""));
    assert_eq!(ids(&grid_of(&renamed).expect("expands")), base);
}

#[test]
fn an_edit_touches_only_the_runs_that_changed() {
    let base = ids(&grid(GRID).expect("expands"));
    let wider = ids(&grid(&GRID.replace("\"500k\"", "\"500k\", \"1M\"")).expect("expands"));
    assert_eq!(wider.len(), 6);
    assert_eq!(wider.iter().filter(|id| base.contains(id)).count(), 4);
}

#[test]
fn a_flop_budget_is_met_by_the_exact_count() {
    let grid = grid("[isoflop]\nbudgets = [\"2e11\", 1e12]\nsizes = [\"41k\", \"131k\"]\n")
        .expect("expands");
    assert_eq!(grid.runs.len(), 4);
    for entry in &grid.runs {
        let budget = entry.budget.expect("made for a budget");
        let half_step = 512.0 * entry.run.config.shape.flops_per_token();
        assert!((entry.run.config.flops() - budget).abs() <= half_step, "{budget}");
    }
}

#[test]
fn a_budget_spans_its_range_of_tokens_per_parameter() {
    let grid = grid(
        "[isoflop]\nbudgets = [\"1e14\"]\nper_budget = 5\n\
         tokens_per_parameter = { from = 5, to = 100 }\n",
    )
    .expect("expands");
    let sizes: Vec<u64> = grid.runs.iter().map(|e| e.run.config.parameters().total).collect();
    assert_eq!(sizes.len(), 5);
    assert!(sizes.windows(2).all(|pair| pair[0] < pair[1]), "{sizes:?}");
}

#[test]
fn explicit_shapes_are_taken_as_they_are() {
    let grid = grid("[[runs]]\nsize = { width = 48, layers = 5, heads = 2 }\ntokens = 200_000\n")
        .expect("expands");
    let expected =
        LmShape { vocabulary: 256, width: 48, layers: 5, heads: 2, sequence: 64, mlp: Mlp::Relu2 };
    assert_eq!(grid.runs[0].run.config.shape, Shape::Lm(expected));
}

#[test]
fn targets_with_one_shape_are_one_run() {
    let grid = grid(&GRID.replace("\"131k\"", "\"41.1k\"")).expect("expands");
    assert_eq!((grid.runs.len(), grid.merged), (2, 2));
}

#[test]
fn faults_that_need_the_data_are_named_with_their_place() {
    let fault = |tail: &str| grid(tail).expect_err("a fault").to_string();
    insta::assert_snapshot!(fault(&GRID.replace("\"131k\"", "\"1k\"")), @"recipe.toml:15:17: grid.sizes[1]: 1000 parameters are fewer than the 14416 of the smallest shape (width 16, 2 layers); hint: ask for at least 14416, or give `width` and `layers` yourself");
    insta::assert_snapshot!(
        fault("[[runs]]\nsize = { width = 50, layers = 2, heads = 4 }\ntokens = 9000\n"), @"recipe.toml:15:1: runs[0].size: width 50 does not split into 4 heads of even width; hint: choose a width that is a multiple of 8");
    insta::assert_snapshot!(
        fault(&format!("{GRID}[[check]]\nsize = \"41k\"\ntokens = \"250k\"\n")), @"recipe.toml:18:8: check[0].size: this check is also a run of the fit, so it would forecast itself; hint: give it another size, token count or seed");
    insta::assert_snapshot!(fault("[isoflop]\nbudgets = [\"1e9\"]\n"), @"recipe.toml:15:12: isoflop.budgets[0]: at the budget of 1e9 FLOPs, 913 parameters are fewer than the 14416 of the smallest shape (width 16, 2 layers); hint: ask for at least 14416, or give `width` and `layers` yourself");
}

#[test]
fn a_corpus_smaller_than_one_batch_is_refused() {
    let recipe = Recipe::parse("recipe.toml", &format!("{HEAD}{GRID}")).expect("valid");
    let small = DataManifest { train_tokens: 1000, ..manifest() };
    insta::assert_snapshot!(expand(&recipe, &small).expect_err("too small").to_string(), @"recipe.toml:4:2: data: the corpus has 1000 training tokens, fewer than one batch of 1024 (batch 16 x sequence 64); hint: add data, or lower `training.batch`");
    let unheld = DataManifest { validation_tokens: 10, ..manifest() };
    insta::assert_snapshot!(expand(&recipe, &unheld).expect_err("too small").to_string(), @"recipe.toml:4:2: data: the corpus holds out 10 tokens, fewer than one window of 64; hint: add data, or raise `data.held_out`");
}
