//! From a recipe file to a grid on its data: the input and output around `sweep-spec`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sweep_spec::{
    cost::CostModel,
    data::{DataManifest, DataSource, Tokenizer},
    grid::{self, Grid},
    plan::{DeviceKind, Plan},
    recipe::{MAX_RECIPE_BYTES, Recipe},
    task::Suite,
};

use crate::{
    exit::{Exit, Failure, OrExit as _},
    machine,
};

/// A recipe with its data read and its runs known.
pub(crate) struct Prepared {
    /// The recipe.
    pub(crate) recipe: Recipe,
    /// The data as it was read.
    pub(crate) manifest: DataManifest,
    /// The runs.
    pub(crate) grid: Grid,
}

impl Prepared {
    /// Reads a recipe and its data, and expands the grid.
    ///
    /// # Errors
    /// A [`Failure`] with exit code 2 for every fault of the recipe or its data.
    pub(crate) fn load(path: &Path, seeds: &[u64]) -> Result<Self, Failure> {
        let mut recipe = read(path)?;
        if !seeds.is_empty() {
            recipe = recipe.with_seeds(seeds);
        }
        let manifest = sweep_data::resolve(&recipe.data, &machine::cache_folder())
            .map_err(|error| anyhow::Error::new(error).context(format!("{}: data", path.display())))
            .or_exit(Exit::Usage)?;
        read_tasks(&mut recipe, path)?;
        let grid = grid::expand(&recipe, &manifest).or_exit(Exit::Usage)?;
        Ok(Self { recipe, manifest, grid })
    }

    /// Costs the grid on these kinds of device.
    ///
    /// # Errors
    /// A [`Failure`] with exit code 2 for a run that no device can hold.
    pub(crate) fn plan(&self, cost: &CostModel, kinds: &[DeviceKind]) -> Result<Plan, Failure> {
        Plan::new(&self.recipe, &self.grid, &self.manifest, cost, kinds).or_exit(Exit::Usage)
    }
}

/// Reads the files of tasks: their content enters the runs.
fn read_tasks(recipe: &mut Recipe, path: &Path) -> Result<(), Failure> {
    let window = recipe.model.sequence as usize;
    for task in &mut recipe.evaluation.tasks {
        if let (Suite::File { content, .. }, Some(items)) = (&mut task.suite, &task.path) {
            *content = sweep_data::task::content_of(items, window)
                .map_err(|error| {
                    let place = format!("{}: task `{}`", path.display(), task.name);
                    anyhow::Error::new(error).context(place)
                })
                .or_exit(Exit::Usage)?;
        }
    }
    Ok(())
}

/// Reads a recipe; relative globs are made to start at its folder.
///
/// # Errors
/// A [`Failure`] with exit code 2.
pub(crate) fn read(path: &Path) -> Result<Recipe, Failure> {
    let shown = path.display();
    let bytes = fs::metadata(path)
        .map_err(|error| {
            let hint = "hint: `sweep init FILE` writes a starter recipe";
            anyhow::anyhow!("cannot read recipe `{shown}`: {error}; {hint}")
        })
        .or_exit(Exit::Usage)?
        .len();
    // Refused before it is read: the limit is there to bound memory.
    if bytes > MAX_RECIPE_BYTES as u64 {
        return Err(Failure::message(
            Exit::Usage,
            format!(
                "{shown}: {bytes} bytes are more than the limit of {MAX_RECIPE_BYTES}; hint: \
                 describe the grid by `[grid]` or `[isoflop]`"
            ),
        ));
    }
    let text = fs::read_to_string(path)
        .map_err(|error| {
            anyhow::anyhow!("cannot read recipe `{shown}`: {error}; hint: a recipe is a UTF-8 file")
        })
        .or_exit(Exit::Usage)?;
    let mut recipe = Recipe::parse(&shown.to_string(), &text).or_exit(Exit::Usage)?;
    let folder = std::path::absolute(path)
        .ok()
        .and_then(|path| path.parent().map(Path::to_owned))
        .unwrap_or_default();
    anchor(&mut recipe.data, &folder);
    for items in recipe.evaluation.tasks.iter_mut().filter_map(|task| task.path.as_mut()) {
        if !Path::new(items.as_str()).is_absolute() && !items.starts_with(['~', '$']) {
            *items = folder.join(items.as_str()).to_string_lossy().into_owned();
        }
    }
    Ok(recipe)
}

/// Makes relative globs start at `folder`: a worker runs in another folder than the author.
fn anchor(source: &mut DataSource, folder: &Path) {
    let anchored = |glob: &mut String| {
        if !Path::new(glob.as_str()).is_absolute() && !glob.starts_with(['~', '$']) {
            *glob = escape(folder).join(glob.as_str()).to_string_lossy().into_owned();
        }
    };
    match source {
        DataSource::Text { globs, tokenizer, .. } => {
            globs.iter_mut().for_each(anchored);
            if let Tokenizer::File(path) = tokenizer
                && !Path::new(path.as_str()).is_absolute()
                && !path.starts_with(['~', '$'])
            {
                *path = folder.join(path.as_str()).to_string_lossy().into_owned();
            }
        }
        DataSource::Bin { train, validation, .. } => {
            train.iter_mut().chain(validation).for_each(anchored);
        }
        DataSource::Images { globs, .. } => globs.iter_mut().for_each(anchored),
        DataSource::Synthetic(_) | DataSource::Glyphs(_) => {}
    }
}

/// The folder as a glob that matches it alone.
fn escape(folder: &Path) -> PathBuf {
    let mut escaped = String::new();
    for c in folder.to_string_lossy().chars() {
        match c {
            '*' | '?' | '[' | ']' => {
                escaped.push('[');
                escaped.push(c);
                escaped.push(']');
            }
            _ => escaped.push(c),
        }
    }
    escaped.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_globs_start_at_the_recipe() {
        let mut source = DataSource::Text {
            globs: vec!["a/*.txt".into(), "/b/*".into(), "~/c/*".into(), "$D/*".into()],
            tokenizer: Tokenizer::Bytes,
            max_bytes: None,
            held_out: 0.05,
        };
        anchor(&mut source, Path::new("/recipes [1]"));
        let DataSource::Text { globs, .. } = source else { unreachable!("is text") };
        assert_eq!(globs, ["/recipes [[]1[]]/a/*.txt", "/b/*", "~/c/*", "$D/*"]);
    }

    fn refusal(path: &Path) -> Failure {
        Prepared::load(path, &[]).err().expect("refused")
    }

    #[test]
    fn a_recipe_that_is_not_there_is_refused() {
        let failure = refusal(Path::new("/nowhere/recipe.toml"));
        assert_eq!(failure.exit(), Exit::Usage);
        assert_eq!(
            failure.to_string(),
            "cannot read recipe `/nowhere/recipe.toml`: No such file or directory (os error 2); \
             hint: `sweep init FILE` writes a starter recipe"
        );
    }

    #[test]
    fn a_glob_that_matches_nothing_is_refused_with_the_recipe() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("recipe.toml");
        let text = "name = \"a\"\n[data]\nsource = \"text\"\nglobs = [\"no/*.txt\"]\n\
                    [model]\nsequence = 8\n[training]\nbatch = 1\nlearning_rate = 0.1\n\
                    [grid]\nsizes = [\"20k\"]\ntokens = [\"10k\"]\n";
        fs::write(&path, text).expect("writes");
        let failure = refusal(&path);
        assert_eq!(failure.exit(), Exit::Usage);
        let glob = folder.path().join("no/*.txt");
        assert_eq!(
            failure.to_string(),
            format!(
                "{}: data: glob `{glob}` matches no file (expanded to `{glob}`); hint: list that \
                 path on the machine that reads the data",
                path.display(),
                glob = glob.display()
            )
        );
    }

    #[test]
    fn the_recipes_of_the_repository_are_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
        let mut found = 0;
        for entry in fs::read_dir(folder).expect("the folder of recipes") {
            let path = entry.expect("an entry").path();
            let recipe = read(&path).unwrap_or_else(|failure| panic!("{failure}"));
            assert_eq!(path.file_stem().and_then(|stem| stem.to_str()), Some(recipe.name.as_str()));
            found += 1;
        }
        assert!(found >= 4, "{found} recipes");
    }
}
