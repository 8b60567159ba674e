use super::*;

const RECIPE: &str = r#"name = "small"

[data]
source = "text"
globs = ["texts/*.txt"]

[model]
sequence = 64

[training]
batch = 16
learning_rate = 0.01

[grid]
sizes = ["13k", 41_000, { width = 64, layers = 2 }]
tokens = ["250k", 5e5]
"#;

fn fault(from: &str, to: &str) -> String {
    assert!(RECIPE.contains(from), "{from}");
    let text = RECIPE.replace(from, to);
    Recipe::parse("recipe.toml", &text).expect_err(to).to_string()
}

#[test]
fn a_recipe_reads_text_and_numbers() {
    let recipe = Recipe::parse("recipe.toml", RECIPE).expect("valid");
    assert_eq!(recipe.requests.len(), 6);
    assert_eq!(recipe.requests[2].size, SizeRequest::Parameters(41_000));
    assert_eq!(recipe.requests[3].amount, Amount::Tokens(500_000));
    let shape = SizeRequest::Shape { width: 64, layers: 2, heads: None };
    assert_eq!(recipe.requests[4].size, shape);
    assert_eq!(recipe.requests[4].size_at.to_string(), "grid.sizes[2]");
}

#[test]
fn unknown_keys_are_refused_with_the_nearest() {
    insta::assert_snapshot!(fault("sizes =", "sizs ="), @"recipe.toml:15:1: grid.sizs: unknown key `sizs`; hint: did you mean `sizes`?");
    insta::assert_snapshot!(fault("[grid]", "[gird]"), @"recipe.toml:14:2: gird: unknown key `gird`; hint: did you mean `grid`?");
    insta::assert_snapshot!(fault("batch =", "zebra = 1\nbatch ="), @"recipe.toml:11:1: training.zebra: unknown key `zebra`; hint: the keys here are batch, learning_rate, base_width, warmup_steps, warmup_fraction, horizon, schedule, trunk, beta1, beta2, epsilon, weight_decay, clip_norm");
    insta::assert_snapshot!(fault("layers = 2", "layer = 2"), @"recipe.toml:15:39: grid.sizes[2].layer: unknown key `layer`; hint: did you mean `layers`?");
    insta::assert_snapshot!(fault("\"text\"", "\"txt\""), @"recipe.toml:4:10: data.source: `txt` is not a choice; hint: did you mean `text`?");
}

#[test]
fn a_horizon_that_says_nothing_or_too_much_is_refused() {
    let with = |horizon: &str| fault("batch =", &format!("horizon = {{ {horizon} }}\nbatch ="));
    insta::assert_snapshot!(with("tokens = \"2M\""), @"recipe.toml:11:1: training.horizon: neither batch nor learning rate follows the tokens; hint: give `batch_exponent = 0.5`, `rate_exponent = -0.32`, or leave `horizon` out");
    insta::assert_snapshot!(with("tokens = \"2M\", batch_exponent = 5"), @"recipe.toml:11:45: training.horizon.batch_exponent: 5 is out of range; hint: give a power from -2 to 2");
    insta::assert_snapshot!(with("tokens = \"2M\", batch_exponent = 0.5 }\ntrunk = true #"), @"recipe.toml:11:1: training.horizon: runs that fork from one trunk have its batch and learning rate, whatever their length; hint: leave out `horizon` or `trunk`");
    insta::assert_snapshot!(with("tokens = 0, batch_exponent = 0.5"), @"recipe.toml:11:22: training.horizon.tokens: `0` is out of range; hint: give a number above 0 and below 1e30");
    insta::assert_snapshot!(with("batch_exponent = 0.5"), @"recipe.toml:11:11: training.horizon: the key `tokens` is missing; hint: `sweep init` writes a recipe with every key");
}

#[test]
fn wrong_types_are_refused_with_what_was_expected() {
    insta::assert_snapshot!(fault("sequence = 64", "sequence = \"64\""), @r#"recipe.toml:8:12: model.sequence: expected a whole number, not negative, found string "64"; hint: `sweep schema` prints the type of every key"#);
    insta::assert_snapshot!(fault("[\"250k\", 5e5]", "\"250k\""), @r#"recipe.toml:16:10: grid.tokens: expected a list, found string "250k"; hint: `sweep schema` prints the type of every key"#);
    insta::assert_snapshot!(fault("41_000", "true"), @r#"recipe.toml:15:17: grid.sizes[1]: expected parameters such as "300k", or { width = 64, layers = 2 }, found boolean `true`; hint: `sweep schema` prints the type of every key"#);
    insta::assert_snapshot!(fault("batch = 16", "batch = -1"), @"recipe.toml:11:9: training.batch: expected a whole number, not negative, found integer `-1`; hint: `sweep schema` prints the type of every key");
}

#[test]
fn numbers_that_are_none_are_refused_by_name() {
    insta::assert_snapshot!(fault("\"250k\"", "\"12q\""), @"recipe.toml:16:11: grid.tokens[0]: `12q` is not a number; hint: write it as 300k, 1.5M, 2e6 or 1_000_000");
    insta::assert_snapshot!(fault("\"13k\"", "\"1.5\""), @"recipe.toml:15:10: grid.sizes[0]: `1.5` is not a whole number; hint: counts of tokens and parameters are whole");
    insta::assert_snapshot!(fault("41_000", "0"), @"recipe.toml:15:17: grid.sizes[1]: `0` is out of range; hint: give a number above 0 and below 1e30");
}

#[test]
fn an_empty_grid_is_refused() {
    insta::assert_snapshot!(fault("[\"250k\", 5e5]", "[]"), @"recipe.toml:16:10: grid.tokens: the list is empty, so the grid has no run; hint: give at least one value");
    let start = RECIPE.find("[grid]").expect("has a grid");
    let error = Recipe::parse("recipe.toml", &RECIPE[..start]).expect_err("no run");
    insta::assert_snapshot!(error.to_string(), @"recipe.toml: grid: the recipe asks for no run; hint: add `[grid]` with `sizes` and `tokens`, `[isoflop]` with `budgets`, or `[[runs]]`");
}

#[test]
fn missing_keys_and_bad_syntax_have_a_place() {
    insta::assert_snapshot!(fault("sequence = 64", ""), @"recipe.toml:7:2: model.sequence: the family `lm` needs `sequence`; hint: add it to `[model]`");
    insta::assert_snapshot!(fault("name = \"small\"", "name = \"small"), @r#"recipe.toml:1:14: invalid basic string, expected `"`; hint: a recipe is written in TOML, `sweep init` writes an example"#);
    insta::assert_snapshot!(fault("name = \"small\"", "name = \"../up\""), @"recipe.toml:1:8: name: `../up` cannot name a folder; hint: use 1 to 64 letters, digits, `-`, `_` and `.`, beginning with a letter or digit");
}

#[test]
fn ranges_are_checked() {
    insta::assert_snapshot!(fault("learning_rate = 0.01", "learning_rate = nan"), @"recipe.toml:12:17: training.learning_rate: NaN is out of range; hint: give a number above 0, at most 10");
    insta::assert_snapshot!(fault("sequence = 64", "sequence = 1024"), @"recipe.toml:8:12: model.sequence: 1024 is no window; hint: give 1 to 512 tokens");
    insta::assert_snapshot!(fault("globs = [\"texts/*.txt\"]", "globs = []"), @r#"recipe.toml:5:9: data.globs: the list is empty; hint: give at least one glob such as "~/texts/**/*.txt""#);
    insta::assert_snapshot!(fault("globs = [\"texts/*.txt\"]", ""), @"recipe.toml:3:2: data.globs: a source of kind `text` needs `globs`; hint: add it to `[data]`");
    insta::assert_snapshot!(
        fault("globs = [\"texts/*.txt\"]", "globs = [\"a\"]\nentropy = 1.0"), @"recipe.toml:6:11: data.entropy: a source of kind `text` has no such key; hint: remove it");
}

#[test]
fn limits_hold() {
    let long = format!("{RECIPE}#{}", "x".repeat(MAX_RECIPE_BYTES));
    let error = Recipe::parse("recipe.toml", &long).expect_err("too long");
    assert!(error.to_string().contains("more than the limit of 1048576"), "{error}");
    let many = (0..101).map(|seed| seed.to_string()).collect::<Vec<_>>().join(", ");
    let tokens = (0..100).map(|k| format!("{}", 1000 + k)).collect::<Vec<_>>().join(", ");
    let text = RECIPE.replace("\"250k\", 5e5", &tokens) + &format!("seeds = [{many}]\n");
    let error = Recipe::parse("recipe.toml", &text).expect_err("too many");
    assert_eq!(
        error.to_string(),
        "recipe.toml:14:2: grid: 30300 runs are more than the limit of 10000; hint: split the \
         recipe"
    );
}

#[test]
fn seeds_replace_those_of_the_recipe() {
    let recipe = Recipe::parse("recipe.toml", RECIPE).expect("valid").with_seeds(&[1, 2]);
    assert_eq!(recipe.requests.len(), 12);
    assert!(recipe.requests.iter().all(|request| [1, 2].contains(&request.seed)));
}

/// The schema in the repository is the one the types give; `SWEEP_BLESS=1` writes it anew.
#[test]
fn the_schema_is_golden() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../schema/recipe.schema.json");
    let made = serde_json::to_string_pretty(&json_schema()).expect("serialises") + "\n";
    if std::env::var_os("SWEEP_BLESS").is_some() {
        std::fs::write(path, &made).expect("writes");
    }
    let golden = std::fs::read_to_string(path).expect("the golden schema");
    assert!(golden == made, "the schema changed; run this test with SWEEP_BLESS=1");
}

const DIFFUSION: &str = r#"name = "small"

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

[grid]
sizes = ["44k"]
tokens = ["10k"]
"#;

fn diffusion_fault(from: &str, to: &str) -> String {
    assert!(DIFFUSION.contains(from), "{from}");
    let text = DIFFUSION.replace(from, to);
    Recipe::parse("recipe.toml", &text).expect_err(to).to_string()
}

#[test]
fn a_diffusion_recipe_reads_with_its_defaults() {
    use crate::{
        diffusion::{NoiseSchedule, Prediction, Weighting},
        run::{Sampler, Sampling},
    };
    let recipe = Recipe::parse("recipe.toml", DIFFUSION).expect("valid");
    let rule = recipe.model.diffusion.expect("diffusion");
    assert_eq!((rule.patch, rule.class_conditional, recipe.model.sequence), (4, false, 1));
    assert_eq!(rule.process.noise, NoiseSchedule::Cosine);
    assert_eq!(rule.process.prediction, Prediction::Noise);
    assert_eq!(rule.process.weighting, Weighting::Uniform);
    let sampling = Sampling { sampler: Sampler::Ddim, steps: 50, count: 256 };
    assert_eq!((recipe.evaluation.tokens, recipe.evaluation.sampling), (2048, Some(sampling)));
    let options = "patch = 4\nnoise = \"linear\"\nprediction = \"velocity\"\n\
                   weighting = { min-snr = 5.0 }\nclass_conditional = true";
    let text = DIFFUSION.replace("patch = 4", options);
    let rule = Recipe::parse("recipe.toml", &text).expect("valid").model.diffusion.expect("some");
    assert_eq!(rule.process.weighting, Weighting::MinSnr(5.0));
    assert!(rule.class_conditional);
}

#[test]
fn a_diffusion_recipe_is_refused_by_the_key() {
    insta::assert_snapshot!(diffusion_fault("patch = 4", "sequence = 64"), @"recipe.toml:10:12: model.sequence: the family `diffusion` has no such key; hint: remove it, or change `family`");
    insta::assert_snapshot!(diffusion_fault("patch = 4\n", ""), @"recipe.toml:8:2: model.patch: the family `diffusion` needs `patch`; hint: add it to `[model]`");
    insta::assert_snapshot!(diffusion_fault("side = 16", "side = 4"), @"recipe.toml:5:8: data.side: 4 is no side of an image; hint: give 8 to 64");
    insta::assert_snapshot!(diffusion_fault("images = \"10k\"", ""), @"recipe.toml:3:2: data.images: a source of kind `glyphs` needs `images`; hint: add it to `[data]`");
    insta::assert_snapshot!(diffusion_fault("patch = 4", "patch = 4\nweighting = { min-snr = 0.0 }"), @"recipe.toml:11:1: model.weighting: 0 bounds no ratio; hint: give a number above 0, usually 5");
    insta::assert_snapshot!(diffusion_fault("family = \"diffusion\"\npatch = 4", "sequence = 64"), @"recipe.toml:4:10: data.source: the family `lm` does not train on a source of kind `glyphs`; hint: give text, bin or synthetic, or change `model.family`");
    insta::assert_snapshot!(fault("[grid]", "[evaluation]\nsamples = 10\n\n[grid]"), @"recipe.toml:15:11: evaluation.samples: only diffusion models are sampled here; hint: remove it");
}

/// Pieces that a recipe is made of, right and wrong.
const PIECES: &[&str] = &[
    "[grid]",
    "[model]",
    "[data]",
    "[[",
    "]",
    "{",
    "}",
    "=",
    "\n",
    ",",
    "\"",
    "sizes",
    "tokens",
    "\"13k\"",
    "1e308",
    "-1",
    "0",
    "nan",
    "inf",
    "18446744073709551616",
    "9223372036854775807",
    "1e-400",
    "true",
    "{ width = 4294967295, layers = 4294967295 }",
    "[[[[[[[[",
    "\u{0}",
    "é",
    "'''",
    "# ",
    "name = \"x\"",
];

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(1500))]

    /// A recipe with pieces cut out and put in is a recipe or an error that names the file.
    #[test]
    fn a_changed_recipe_is_a_recipe_or_an_error(
        changes in proptest::collection::vec(
            (proptest::prelude::any::<proptest::sample::Index>(), 0..12_usize, 0..PIECES.len() + 1),
            1..5,
        ),
    ) {
        let mut text: Vec<char> = RECIPE.chars().collect();
        for (place, cut, piece) in changes {
            let place = place.index(text.len());
            let end = (place + cut).min(text.len());
            let put: Vec<char> = PIECES.get(piece).copied().unwrap_or("").chars().collect();
            text.splice(place..end, put);
        }
        let text: String = text.into_iter().collect();
        if let Err(error) = Recipe::parse("recipe.toml", &text) {
            let message = error.to_string();
            proptest::prop_assert!(message.starts_with("recipe.toml"), "{message}");
        }
    }
}
