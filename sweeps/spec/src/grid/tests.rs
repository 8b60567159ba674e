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
        image: None,
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
    let expected = LmShape {
        vocabulary: 256,
        width: 48,
        layers: 5,
        heads: 2,
        sequence: 64,
        mlp: Mlp::Relu2,
        token_shift: false,
    };
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
    insta::assert_snapshot!(expand(&recipe, &small).expect_err("too small").to_string(), @"recipe.toml:4:2: data: there are 1000 training tokens, fewer than one batch of 1024 (batch 16 x sequence 64); hint: add data, or lower `training.batch`");
    let unheld = DataManifest { validation_tokens: 10, ..manifest() };
    insta::assert_snapshot!(expand(&recipe, &unheld).expect_err("too small").to_string(), @"recipe.toml:4:2: data: 10 tokens are held out, fewer than one window of 64; hint: add data, or raise `data.held_out`");
}

#[test]
fn batch_and_rate_follow_the_horizon() {
    let horizon = "horizon = { tokens = \"250k\", batch_exponent = 0.5, rate_exponent = -0.5 }\n";
    let recipe = |tokens: &str| {
        let text = format!("{HEAD}{horizon}[grid]\nsizes = [\"41k\"]\ntokens = {tokens}\n");
        Recipe::parse("recipe.toml", &text).expect("valid")
    };
    let grid = expand(&recipe("[\"250k\", \"1M\"]"), &manifest()).expect("expands");
    let facts = |entry: &GridRun| {
        let config = &entry.run.config;
        (config.batch, config.steps, config.optimizer.learning_rate)
    };
    let found: Vec<_> = grid.runs.iter().map(facts).collect();
    assert_eq!(found, [(16, 244, 0.01), (32, 488, 0.005)]);

    let fault = |tokens: &str, manifest: &DataManifest| {
        expand(&recipe(tokens), manifest).expect_err("a fault").to_string()
    };
    insta::assert_snapshot!(fault("[\"1e13\"]", &manifest()), @"recipe.toml:17:11: grid.tokens[0]: at 1e13 tokens `training.horizon` makes a batch of 101193 sequences, more than 65536; hint: lower `training.horizon.batch_exponent` or `training.batch`");
    let small = DataManifest { train_tokens: 2000, ..manifest() };
    insta::assert_snapshot!(fault("[\"250k\", \"1M\"]", &small), @"recipe.toml:4:2: data: there are 2000 training tokens, fewer than one batch of 2048 (batch 32 x sequence 64); hint: add data, or lower `training.batch`");
}

const DIFFUSION: &str = r#"
name = "small"

[data]
source = "glyphs"
side = 16
images = "10k"

[model]
family = "diffusion"
patch = 4

[training]
batch = 16
learning_rate = 0.01

[isoflop]
budgets = ["1e10"]
sizes = ["44k", { width = 64, layers = 3 }]
"#;

fn images() -> DataManifest {
    let image = crate::data::ImageFacts { side: 16, channels: 1, classes: 0 };
    DataManifest { train_tokens: 10_000, validation_tokens: 1000, image: Some(image), ..manifest() }
}

#[test]
fn a_diffusion_grid_counts_images() {
    let recipe = Recipe::parse("recipe.toml", DIFFUSION).expect("valid");
    let grid = expand(&recipe, &images()).expect("expands");
    let config = &grid.runs[0].run.config;
    assert_eq!(config.parameters().total, 44_032);
    // 1e10 FLOPs at 2,856,960 an image are 3500.2 images, 218.8 batches of 16.
    assert_eq!((config.steps, config.tokens()), (219, 3504));
    assert_eq!(grid.runs[1].run.config.shape.layers(), 3);
    let hashed = config.canonical_json();
    assert!(hashed.contains(r#""shape":{"diffusion":{"#), "{hashed}");
}

#[test]
fn a_diffusion_grid_refuses_what_the_images_cannot_be() {
    let refused = |from: &str, to: &str, images: DataManifest| {
        let recipe = Recipe::parse("recipe.toml", &DIFFUSION.replace(from, to)).expect("valid");
        expand(&recipe, &images).expect_err(to).to_string()
    };
    insta::assert_snapshot!(refused("patch = 4", "patch = 5", images()), @"recipe.toml:19:10: isoflop.sizes[0]: patches of 5 x 5 do not tile images of 16 x 16; hint: choose a `patch` that divides 16");
    let conditional = "patch = 4\nclass_conditional = true";
    insta::assert_snapshot!(refused("patch = 4", conditional, images()), @"recipe.toml:20:10: isoflop.sizes[0]: the images have no classes; hint: drop `class_conditional`, or add labels: IDX labels, CIFAR-10, or one folder per class");
    let text = DataManifest { image: None, ..images() };
    insta::assert_snapshot!(refused("patch = 4", "patch = 4", text), @"recipe.toml:19:10: isoflop.sizes[0]: the data are no images; hint: use a source of kind `images` or `glyphs`");
}

const TRUNK: &str = "warmup_steps = 20\ntrunk = true\n";

fn trunks(grid: &Grid) -> Vec<&GridRun> {
    grid.runs.iter().filter(|entry| entry.role == RunRole::Trunk).collect()
}

/// As above: what is on disk is known by this id.
#[test]
fn the_ids_of_a_trunk_and_its_branch_are_golden() {
    let grid = grid_of(&format!("{HEAD}{TRUNK}{GRID}")).expect("expands");
    let [trunk, branch, ..] = grid.runs.as_slice() else { panic!("{grid:?}") };
    insta::assert_snapshot!(trunk.run.config.canonical_json(), @r#"{"batch":16,"data":"29a96bc9a4557cc357a9914627805410","optimizer":{"base_width":64,"beta1":0.9,"beta2":0.95,"clip_norm":1.0,"epsilon":1e-8,"learning_rate":0.01,"weight_decay":0.1},"schedule":{"decay":{"wsd":{"fraction":0.0}},"warmup_fraction":1.0,"warmup_steps":20},"seed":0,"shape":{"lm":{"heads":2,"layers":2,"sequence":64,"vocabulary":256,"width":32}},"steps":390,"training_revision":2}"#);
    insta::assert_snapshot!(trunk.run.config.id(), @"7c5d02eaef7f99886a6916b5dd3f15f4");
    insta::assert_snapshot!(branch.run.config.canonical_json(), @r#"{"batch":16,"data":"29a96bc9a4557cc357a9914627805410","optimizer":{"base_width":64,"beta1":0.9,"beta2":0.95,"clip_norm":1.0,"epsilon":1e-8,"learning_rate":0.01,"weight_decay":0.1},"parent":{"run":"7c5d02eaef7f99886a6916b5dd3f15f4","step":195},"schedule":{"decay":{"wsd":{"fraction":0.2}},"warmup_fraction":0.1,"warmup_steps":20},"seed":0,"shape":{"lm":{"heads":2,"layers":2,"sequence":64,"vocabulary":256,"width":32}},"steps":244,"training_revision":2}"#);
    insta::assert_snapshot!(branch.run.config.id(), @"a676720d0de55d390a68562088a0268a");
}

#[test]
fn runs_of_one_size_and_seed_fork_from_one_trunk() {
    let text = format!("{HEAD}{TRUNK}{GRID}seeds = [1, 2]\n");
    let grid = grid_of(&text).expect("expands");
    assert_eq!((grid.runs.len(), trunks(&grid).len()), (12, 4));
    for (place, entry) in grid.runs.iter().enumerate() {
        let config = &entry.run.config;
        if entry.role == RunRole::Trunk {
            assert!(config.is_trunk() && config.parent.is_none());
            assert_eq!(entry.run.forks.last(), Some(&config.steps), "it ends at its last fork");
            continue;
        }
        let edge = config.parent.as_ref().expect("a branch");
        let at = grid.runs.iter().position(|other| other.run.config.id() == edge.run);
        let trunk = &grid.runs[at.expect("its trunk is in the grid")];
        assert!(at < Some(place), "a trunk stands before its branches");
        assert!(trunk.run.forks.contains(&edge.step));
        assert_eq!(config.schedule.cooldown_start(config.steps), Some(edge.step));
        assert_eq!(trunk.run.config.seed, config.seed);
        assert_eq!(config.own_steps() + edge.step, config.steps);
    }
    let plain = grid_of(&text.replace("trunk = true", "trunk = false")).expect("expands");
    assert_eq!(plain.runs.len(), 8);
    assert!(ids(&plain).iter().all(|id| !ids(&grid).contains(id)));
}

#[test]
fn a_larger_d_extends_the_trunk_and_leaves_every_id_alone() {
    let grid = |grid: &str| grid_of(&format!("{HEAD}{TRUNK}{grid}")).expect("expands");
    let (before, after) = (grid(GRID), grid(&GRID.replace("\"500k\"", "\"500k\", \"1M\"")));
    assert!(ids(&before).iter().all(|id| ids(&after).contains(id)));
    assert_eq!(after.runs.len(), before.runs.len() + 2);
    for (old, new) in trunks(&before).into_iter().zip(trunks(&after)) {
        assert_eq!(old.run.config.id(), new.run.config.id());
        assert!(new.run.config.steps > old.run.config.steps);
        assert_eq!(old.run.forks, new.run.forks[..2]);
        let merged = old.run.extended_by(&new.run);
        assert_eq!(merged, new.run.extended_by(&old.run));
        assert_eq!(merged, new.run);
    }
}

#[test]
fn a_check_forks_only_from_a_trunk_of_the_fit() {
    let check =
        "[[check]]\nsize = \"41k\"\ntokens = \"2M\"\n[[check]]\nsize = \"380k\"\ntokens = \"2M\"\n";
    let grid = grid_of(&format!("{HEAD}{TRUNK}{GRID}{check}")).expect("expands");
    let checks: Vec<_> = grid.runs.iter().filter(|run| run.role == RunRole::Check).collect();
    assert_eq!(trunks(&grid).len(), 2);
    let shared = checks[0].run.config.parent.as_ref().expect("the fit has this size");
    assert_eq!(trunks(&grid)[0].run.forks.last(), Some(&shared.step));
    assert_eq!(checks[1].run.config.parent, None);
}

#[test]
fn a_warm_up_that_depends_on_d_is_refused_with_its_place() {
    let fault = |training: &str| {
        grid_of(&format!("{HEAD}{training}{GRID}")).expect_err("a fault").to_string()
    };
    insta::assert_snapshot!(fault("trunk = true\n"), @"recipe.toml:17:11: grid.tokens[0]: at 244 steps `warmup_fraction` cuts the warm-up from 100 to 24 steps, but a branch has the warm-up of its trunk; hint: set `training.warmup_steps` to at most 24, raise `training.warmup_fraction`, or ask for more");
    insta::assert_snapshot!(
        fault("trunk = true\nwarmup_fraction = 1.0\nwarmup_steps = 200\n"), @"recipe.toml:19:11: grid.tokens[0]: the cool-down begins at step 195 of 244, within the warm-up of 200 steps, so there is nothing to fork from; hint: set `training.warmup_steps` to at most 195, lower the fraction of the `wsd` schedule, or ask for more");
}

/// A grid of trunks from any lengths, fraction and warm-up that are allowed.
fn forest(tokens: &[u64], fraction: f64, warmup: u64) -> Option<Grid> {
    let head = HEAD.replace("batch = 16", "batch = 1");
    let text = format!(
        "{head}trunk = true\nwarmup_steps = {warmup}\nwarmup_fraction = 1.0\n\
         schedule = {{ wsd = {{ fraction = {fraction} }} }}\n[grid]\nsizes = [\"41k\"]\n\
         tokens = {tokens:?}\n"
    );
    grid_of(&text).ok()
}

proptest::proptest! {
    /// Edges point to a checkpoint that the trunk makes, along which every rate agrees; the cost
    /// counts a trunk once and is never above that of runs trained alone.
    #[test]
    fn edges_hold_for_any_lengths(
        steps in proptest::collection::vec(1_u64..400, 1..6),
        fraction in 0.05_f64..0.95,
        warmup in 0_u64..10,
    ) {
        let tokens: Vec<u64> = steps.iter().map(|steps| steps * 64).collect();
        let Some(grid) = forest(&tokens, fraction, warmup) else { return Ok(()) };
        let trunk = &trunks(&grid)[0].run;
        proptest::prop_assert_eq!(trunks(&grid).len(), 1);
        let branches = grid.runs.iter().filter(|run| run.role == RunRole::Fit);
        let (mut alone, mut own) = (0, trunk.config.own_steps());
        for branch in branches {
            let config = &branch.run.config;
            let edge = config.parent.as_ref().expect("a branch");
            proptest::prop_assert_eq!(&edge.run, &trunk.config.id());
            proptest::prop_assert!(trunk.forks.contains(&edge.step) && edge.step >= 1);
            proptest::prop_assert!(edge.step < config.steps);
            for step in 0..edge.step {
                let rate = config.schedule.factor(step, config.steps);
                let its = trunk.config.schedule.factor(step, trunk.config.steps);
                proptest::prop_assert_eq!(rate.to_bits(), its.to_bits());
            }
            (alone, own) = (alone + config.steps, own + config.own_steps());
        }
        proptest::prop_assert_eq!(*trunk.forks.last().expect("forks"), trunk.config.steps);
        proptest::prop_assert!(own <= alone, "{} of {}", own, alone);
        let json = crate::hash::canonical_json(trunk);
        let back: Run = serde_json::from_str(&json).expect("reads back");
        proptest::prop_assert_eq!(&back, trunk);
    }
}

const RATES: &str = "[sensitivity]\nrate_factors = [0.5, 4]\nsizes = [\"131k\"]\n\
                     tokens = [\"250k\", \"500k\"]\n";

#[test]
fn other_rates_are_runs_of_a_role_of_their_own() {
    let plain = grid(GRID).expect("expands");
    let more = grid(&format!("{GRID}{RATES}")).expect("expands");
    assert_eq!(ids(&more)[..4], ids(&plain), "the grid is as it was");
    assert_eq!((more.runs.len(), more.merged), (8, 0));
    for entry in &more.runs[4..] {
        assert_eq!(entry.role, RunRole::Sensitivity);
        let config = &entry.run.config;
        let own = plain.runs.iter().find(|own| {
            own.run.config.shape == config.shape && own.run.config.steps == config.steps
        });
        let own = &own.expect("a place of the grid").run.config;
        let mut at_own = config.clone();
        at_own.optimizer.learning_rate = own.optimizer.learning_rate;
        assert_eq!(at_own, *own, "only the rate differs");
    }
    let rates: Vec<f64> =
        more.runs[4..].iter().map(|entry| entry.run.config.optimizer.learning_rate).collect();
    assert_eq!(rates, [0.005, 0.04, 0.005, 0.04]);
}

#[test]
fn a_factor_multiplies_the_rate_that_a_horizon_gives() {
    let head = HEAD
        .replace("batch = 16", "batch = 16\nhorizon = { tokens = \"500k\", rate_exponent = -1.0 }");
    let more = grid_of(&format!("{head}{GRID}{RATES}")).expect("expands");
    let rates: Vec<f64> =
        more.runs[4..].iter().map(|entry| entry.run.config.optimizer.learning_rate).collect();
    assert_eq!(rates, [0.01, 0.08, 0.005, 0.04], "250k tokens have twice the rate of 500k");
}

/// A run that is asked for twice is trained once, and stays what the grid has it for.
#[test]
fn a_run_at_another_rate_that_is_there_already_is_not_doubled() {
    // 1,024 tokens a step: both counts are 244 steps, whose rates differ by the horizon.
    let head = HEAD
        .replace("batch = 16", "batch = 16\nhorizon = { tokens = 250_000, rate_exponent = 1.0 }");
    let tokens = [250_000_u64, 250_100];
    let text = |factor: f64| {
        format!(
            "{head}[grid]\nsizes = [\"41k\"]\ntokens = [{}, {}]\n[sensitivity]\n\
             rate_factors = [{factor:?}]\nsizes = [\"41k\"]\ntokens = [{}]\n",
            tokens[0], tokens[1], tokens[0]
        )
    };
    let rate = |entry: &GridRun| entry.run.config.optimizer.learning_rate;
    let apart = grid_of(&text(2.0)).expect("expands");
    assert_eq!((apart.runs.len(), apart.merged), (3, 0));
    // The factor that leads from the rate of the first run to that of the second, to the last bit.
    let [low, high] = [rate(&apart.runs[0]), rate(&apart.runs[1])];
    let factor = [high / low, (high / low).next_up(), (high / low).next_down()]
        .into_iter()
        .find(|factor| low * factor == high)
        .expect("one of three neighbours");
    let same = grid_of(&text(factor)).expect("expands");
    assert_eq!((same.runs.len(), same.merged), (2, 1));
    assert!(same.runs.iter().all(|entry| entry.role == RunRole::Fit));
}

#[test]
fn seeds_given_by_hand_hold_for_other_rates_too() {
    let text = format!("{HEAD}{GRID}{RATES}");
    let recipe = Recipe::parse("recipe.toml", &text).expect("valid").with_seeds(&[1, 2]);
    let grid = expand(&recipe, &manifest()).expect("expands");
    let seeds: Vec<u64> = grid
        .runs
        .iter()
        .filter(|entry| entry.role == RunRole::Sensitivity)
        .map(|entry| entry.run.config.seed)
        .collect();
    assert_eq!(seeds.len(), 8);
    assert_eq!(seeds.iter().filter(|seed| **seed == 1).count(), 4);
}
