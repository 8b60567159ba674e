//! The output folder of a sweep: observations, fit, figures and report, each whole or not there.

use std::{
    fs,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use sweep_fit::Fit;
use sweep_plot::{
    figures::FigureKind,
    input::PlotInput,
    render::{Paint, svg},
};
use sweep_spec::metric::Metric;

use crate::{
    exit::{Exit, Failure},
    export::{self, csv::Points},
    page::{self, Telling},
    results::SweepResults,
};

/// Files of the folder.
pub(crate) struct OutFolder {
    root: PathBuf,
}

impl OutFolder {
    /// Makes the folder and checks that it can be written, before anything is trained.
    ///
    /// # Errors
    /// Exit code 2.
    pub(crate) fn create(root: &Path) -> Result<Self, Failure> {
        let probe = root.join(".writable");
        let made = fs::create_dir_all(root.join("figures"))
            .and_then(|()| fs::write(&probe, b""))
            .and_then(|()| fs::remove_file(&probe));
        made.map_err(|error| {
            let shown = root.display();
            let hint = "hint: give a folder that you may write to with --out";
            Failure::message(
                Exit::Usage,
                format!("cannot write the output folder `{shown}`: {error}; {hint}"),
            )
        })?;
        Ok(Self { root: root.to_owned() })
    }

    /// The folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of store, access file and worker.
    #[cfg(feature = "local")]
    pub(crate) fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Writes a file by renaming a whole one into place.
    ///
    /// # Errors
    /// Exit code 1, with the file.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, Failure> {
        let path = self.root.join(name);
        write_whole(&path, bytes)?;
        Ok(path)
    }

    /// Begins the table of every point, which is too long to hold.
    ///
    /// # Errors
    /// Exit code 1, with the file.
    pub(crate) fn points(&self) -> Result<PointsFile, Failure> {
        let path = self.root.join("points.csv");
        let staged = path.with_extension("part");
        let begun = fs::File::create(&staged).and_then(|file| Points::begin(BufWriter::new(file)));
        match begun {
            Ok(table) => Ok(PointsFile { table, staged, path }),
            Err(error) => Err(unwritable(&path, &error)),
        }
    }

    /// Writes everything that the results give but the points. What needs a fit is left out without
    /// one.
    ///
    /// # Errors
    /// Exit code 1, with the file.
    pub(crate) fn write_results(
        &self,
        results: &SweepResults,
        input: &PlotInput,
        fit: Option<&Fit>,
        telling: &Telling,
    ) -> Result<Vec<PathBuf>, Failure> {
        let rows = bytes(|out| export::csv::runs(results, out))?;
        let mut paths = vec![self.write("observations.csv", &rows)?];
        if let Some(fit) = fit {
            paths.push(self.write("fit.json", &json(fit)?)?);
        }
        let figures = FigureKind::build_all(input);
        for (kind, figure) in &figures {
            let drawn = svg::render(figure, Paint::Standalone);
            paths.push(self.write(&format!("figures/{}.svg", kind.name()), drawn.as_bytes())?);
        }
        let page = page::render(results, input, &figures, telling)?;
        paths.push(self.write("report.html", page.as_bytes())?);
        Ok(paths)
    }
}

/// The table of points on its way; it takes its place when it is whole.
pub(crate) struct PointsFile {
    table: Points<BufWriter<fs::File>>,
    staged: PathBuf,
    path: PathBuf,
}

impl PointsFile {
    /// Writes points of a run's metric.
    ///
    /// # Errors
    /// Exit code 1, with the file.
    pub(crate) fn part(
        &mut self,
        run: &str,
        metric: Metric,
        points: &[(u64, f64)],
    ) -> Result<(), Failure> {
        let written = self.table.part(run, metric, points);
        written.map_err(|error| unwritable(&self.path, &error))
    }

    /// Puts the file into its place.
    ///
    /// # Errors
    /// Exit code 1, with the file.
    pub(crate) fn end(self) -> Result<PathBuf, Failure> {
        let Self { table, staged, path } = self;
        let written = table.end().and_then(|()| fs::rename(&staged, &path));
        written.map_err(|error| unwritable(&path, &error))?;
        Ok(path)
    }
}

/// Writes a file by renaming a whole one into place.
///
/// # Errors
/// Exit code 1, with the file.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let staged = path.with_extension("part");
    let written = fs::write(&staged, bytes).and_then(|()| fs::rename(&staged, path));
    written.map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    let shown = path.display();
    let hint = "hint: check the folder, its permissions and the free space";
    Failure::message(Exit::Failed, format!("cannot write `{shown}`: {error}; {hint}"))
}

/// A value as a JSON file.
///
/// # Errors
/// Never for our types; kept as an error all the same.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, Failure> {
    bytes(|out| {
        serde_json::to_writer_pretty(&mut *out, value)?;
        writeln!(out)
    })
}

fn bytes(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<Vec<u8>, Failure> {
    let mut buffer = Vec::new();
    write(&mut buffer)?;
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_written_is_refused_with_a_hint() {
        let temporary = tempfile::tempdir().expect("a folder");
        let file = temporary.path().join("file");
        fs::write(&file, b"").expect("writes");
        // Below a file no folder can be made, whoever runs the test.
        let failure = OutFolder::create(&file.join("out")).err().expect("refused");
        assert_eq!(failure.exit(), Exit::Usage);
        let text = failure.to_string();
        assert!(text.starts_with("cannot write the output folder"), "{text}");
        assert!(text.ends_with("hint: give a folder that you may write to with --out"), "{text}");
    }

    #[test]
    fn points_come_in_parts_and_stand_in_place_when_they_are_whole() {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = OutFolder::create(temporary.path()).expect("writable");
        let mut points = folder.points().expect("begins");
        points.part("a", Metric::TrainLoss, &[(1, 2.5), (2, f64::NAN)]).expect("writes");
        points.part("b", Metric::ValidationLoss, &[(2, 0.0)]).expect("writes");
        let place = temporary.path().join("points.csv");
        assert!(!place.exists(), "not before it is whole");
        assert_eq!(points.end().expect("ends"), place);
        let text = fs::read_to_string(place).expect("reads");
        assert_eq!(
            text,
            "run,metric,step,value\na,train/loss,1,2.5\na,train/loss,2,NaN\n\
             b,validation/loss,2,0\n"
        );
        assert!(!temporary.path().join("points.part").exists());
    }

    #[test]
    fn files_are_whole() {
        let temporary = tempfile::tempdir().expect("a folder");
        let folder = OutFolder::create(temporary.path()).expect("writable");
        let path = folder.write("a.json", b"{}").expect("writes");
        assert_eq!(fs::read(path).expect("reads"), b"{}");
        assert!(!temporary.path().join("a.part").exists());
    }
}
