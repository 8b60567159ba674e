//! What the whole-system tests stand on: a folder of its own for every test, the real binaries in
//! it, and processes that never outlive their test. No product code, and no knowledge of what a
//! test is about.
//!
//! Time is read here only to give up waiting; no test compares times.

mod postgres;

use std::{
    ffi::OsStr,
    fs::{self, File},
    net::TcpListener,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

pub use postgres::PostgresServer;

/// Waiting for anything ends here: the longest single thing is a tiny sweep on a busy machine of
/// two cores, which takes seconds.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// Between two looks.
const TICK: Duration = Duration::from_millis(50);

/// The root of the repository.
///
/// # Panics
/// Never: this crate stands in a folder of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    root.expect("the tests stand in a folder of the repository").to_owned()
}

/// A binary of the workspace, as `tests/run` built it beside this test.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a process knows its executable");
    // target/PROFILE/deps/TEST
    let folder = test.parent().and_then(Path::parent).expect("tests lie in `deps`");
    let path = folder.join(name);
    assert!(path.is_file(), "{} is missing; hint: run tests/run, which builds it", path.display());
    path
}

/// A process of a test. It is killed and reaped when it goes out of scope.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to stdout and stderr so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Sends a signal by name: `INT`, `TERM`, `KILL`, `STOP`.
    ///
    /// # Errors
    /// When `kill` refuses, for example because the process has ended.
    pub fn signal(&self, name: &str) -> Result<()> {
        signal(self.id(), name).with_context(|| self.name.clone())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it has not ended after [`PATIENCE`].
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        let (child, log) = (&mut self.child, &self.log);
        let context = || String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
        wait_until(&what, context, || Ok(child.try_wait()?))
    }

    /// Waits until it has written `text`.
    ///
    /// # Errors
    /// When it ends before, or says nothing of the kind for [`PATIENCE`].
    pub fn wait_for_log(&mut self, text: &str) -> Result<()> {
        let what = format!("{} to say `{text}`", self.name);
        let (child, log) = (&mut self.child, &self.log);
        let read = || String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
        wait_until(&what, read, || {
            if read().contains(text) {
                return Ok(Some(()));
            }
            match child.try_wait()? {
                Some(status) => bail!("it ended with {status} before"),
                None => Ok(None),
            }
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal by name to a process.
///
/// # Errors
/// When `kill` refuses, for example because the process has ended.
pub fn signal(process: u32, name: &str) -> Result<()> {
    let id = process.to_string();
    let status = Command::new("kill").args([&format!("-{name}"), &id]).status()?;
    ensure!(status.success(), "no process {id} to send {name}");
    Ok(())
}

/// The processes that a process has started and not reaped, oldest first.
#[must_use]
pub fn children(process: u32) -> Vec<u32> {
    let listed = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = listed.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parent = |id: &u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name stands in parentheses and may hold spaces; state and parent follow.
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<u32>().ok()
    };
    let mut found: Vec<u32> = ids.filter(|id| parent(id) == Some(process)).collect();
    found.sort_unstable();
    found
}

/// Looks again and again until `look` finds something.
///
/// # Errors
/// The first error of `look`, or that nothing was found for [`PATIENCE`]; both with `context`.
pub fn wait_until<T>(
    what: &str,
    context: impl Fn() -> String,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = now() + PATIENCE;
    loop {
        let found = look().with_context(|| format!("waiting for {what}\n{}", context()))?;
        if let Some(found) = found {
            return Ok(found);
        }
        ensure!(now() < end, "waited {PATIENCE:?} for {what}\n{}", context());
        thread::sleep(TICK);
    }
}

#[expect(clippy::disallowed_methods, reason = "the edge that reads the clock, to give up waiting")]
fn now() -> Instant {
    Instant::now()
}

/// A port of the loopback interface that is free now.
///
/// # Errors
/// When none is.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A folder with a small corpus and caches, state and outputs of its own.
#[derive(Debug)]
pub struct Sandbox {
    folder: TempDir,
    /// Where the access file of its coordinator lies, inside.
    access: String,
    /// The network namespace of its commands; that of the test when absent.
    namespace: Option<String>,
}

impl Sandbox {
    /// A sandbox with a corpus of small texts under `texts/`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("sweep-test-").tempdir()?;
        let access = "state/access.json".to_owned();
        let sandbox = Self { folder, access, namespace: None };
        for i in 0..60 {
            sandbox.write(&format!("texts/{i}.txt"), text(i))?;
        }
        Ok(sandbox)
    }

    /// A path inside.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file inside, with its folders.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
        fs::write(&path, content)?;
        Ok(path)
    }

    /// A command of one of the binaries, in this folder and with an environment of its own.
    #[must_use]
    pub fn command(&self, name: &str, arguments: &[&str]) -> Command {
        self.command_in(self.namespace.as_deref(), name, arguments)
    }

    /// A command of one of the binaries in a network namespace.
    #[must_use]
    pub fn command_in(&self, namespace: Option<&str>, name: &str, arguments: &[&str]) -> Command {
        let mut command = match namespace {
            None => Command::new(binary(name)),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(binary(name));
                command
            }
        };
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        for (variable, _) in std::env::vars_os() {
            // Whatever the caller's shell sets for real sweeps stays out of a test.
            if variable.to_string_lossy().starts_with("SWEEP_") {
                command.env_remove(&variable);
            }
        }
        command
            .env("HOME", self.path("home"))
            .env("SWEEP_CACHE", self.path("cache"))
            .env("SWEEP_ACCESS", self.access())
            .env_remove("XDG_CACHE_HOME")
            .env_remove("XDG_STATE_HOME")
            .env_remove("RUST_LOG")
            .env("NO_COLOR", "1");
        command
    }

    /// The access file of this sandbox's coordinator.
    #[must_use]
    pub fn access(&self) -> PathBuf {
        self.path(&self.access)
    }

    /// Says where the access file lies, for a coordinator inside `sweep run`.
    pub fn set_access(&mut self, name: &str) {
        name.clone_into(&mut self.access);
    }

    /// Puts all commands from now on into a network namespace.
    pub fn enter(&mut self, namespace: &str) {
        self.namespace = Some(namespace.to_owned());
    }

    /// Runs a binary to its end.
    ///
    /// # Errors
    /// When it cannot be started, or has not ended after [`PATIENCE`]; then it is killed.
    pub fn run(&self, name: &str, arguments: &[&str]) -> Result<Output> {
        self.run_command(name, self.command(name, arguments))
    }

    /// Runs a prepared command to its end; `name` is for messages.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_command(&self, name: &str, mut command: Command) -> Result<Output> {
        // Stdout goes to a file of its own, since a pipe that nobody reads fills up.
        let stdout = tempfile::tempfile_in(self.folder.path())?;
        let stderr = tempfile::tempfile_in(self.folder.path())?;
        let child = command.stdout(stdout.try_clone()?).stderr(stderr.try_clone()?).spawn();
        let child = child.with_context(|| format!("starting {name}"))?;
        let mut process = Process { name: name.to_owned(), child, log: PathBuf::new() };
        let status = process.wait().with_context(|| read_back(&stderr))?;
        Ok(Output {
            status,
            stdout: read_back(&stdout).into_bytes(),
            stderr: read_back(&stderr).into_bytes(),
        })
    }

    /// Runs the command `sweep` and gives its stdout.
    ///
    /// # Errors
    /// When it ends with another code than 0; what it said is part of the error.
    pub fn sweep(&self, arguments: &[&str]) -> Result<String> {
        let output = self.run("sweep", arguments)?;
        ensure!(output.status.success(), "sweep {arguments:?}: {}", said(&output));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs the command `sweep` with `--json` and reads what it prints.
    ///
    /// # Errors
    /// As [`Self::sweep`], or when it prints no JSON.
    pub fn sweep_json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.sweep(&[arguments, &["--json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("sweep {arguments:?} printed {text}"))
    }

    /// Starts a binary in the background.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, name: &str, arguments: &[&str]) -> Result<Process> {
        self.start_command(name, self.command(name, arguments))
    }

    /// Starts a prepared command in the background; `name` is for messages.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_command(&self, name: &str, mut command: Command) -> Result<Process> {
        let log = tempfile::Builder::new()
            .prefix(&format!("{name}-"))
            .suffix(".log")
            .tempfile_in(self.folder.path())?
            .into_temp_path()
            .keep()?;
        let out = File::options().append(true).open(&log)?;
        let child = command.stdout(out.try_clone()?).stderr(out).spawn();
        let child = child.with_context(|| format!("starting {name}"))?;
        Ok(Process { name: name.to_owned(), child, log })
    }
}

/// All of a file that was written through another handle.
fn read_back(file: &File) -> String {
    let mut bytes = vec![0; usize::try_from(file.metadata().map_or(0, |m| m.len())).unwrap_or(0)];
    // What cannot be read is shown as what could: this is for comparisons and messages of tests.
    let _ = file.read_exact_at(&mut bytes, 0);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What an ended process said, for messages.
#[must_use]
pub fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// Holds a failed command to what it must say: exit code, parts of stderr, a hint, no panic.
///
/// # Panics
/// When it said something else.
#[track_caller]
pub fn assert_refused(output: &Output, code: i32, parts: &[&str]) {
    let all = said(output);
    assert_eq!(output.status.code(), Some(code), "{all}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    for part in parts {
        assert!(stderr.contains(part), "`{part}` is not in:\n{all}");
    }
    assert!(stderr.contains("hint:"), "no hint in:\n{all}");
    assert!(!stderr.contains("panicked"), "{all}");
}

/// A text of about 5 kB in which the next word can be learnt.
fn text(seed: u64) -> String {
    const WORDS: [&str; 16] = [
        "the ", "law ", "of ", "small ", "models ", "falls ", "with ", "data ", "and ", "size ",
        "until ", "nothing ", "more ", "is ", "learnt. ", "Then\n",
    ];
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) + 1;
    let mut text = String::new();
    let mut at = 0;
    for _ in 0..900 {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Mostly the next word, now and then another one.
        let jump = if state >> 61 == 0 { (state >> 40) as usize } else { 1 };
        at = (at + jump) % WORDS.len();
        text.push_str(WORDS[at]);
    }
    text
}

/// Files in a folder and below with this extension, sorted.
///
/// # Errors
/// When a folder cannot be read.
pub fn files_with(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files_with(&path, extension)?);
        } else if path.extension() == Some(OsStr::new(extension)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
