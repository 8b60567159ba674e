//! A Postgres server for a test: its own folder, port and process, made from the installed binaries.
//!
//! The server stands under a shell that waits on a pipe from the test. However the test ends, the
//! pipe closes, and the shell stops the server and removes the folder.

use std::{
    env, fs,
    io::Write as _,
    os::unix::{fs::chown, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Output, Stdio},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{free_port, wait_until};

/// Reads orders until the test is gone. `QUIT` is a crash for the server: nothing is written back
/// first, and its own log has to bring it up again.
const KEEPER: &str = r#"
start() {
    "$1/postgres" -D "$2/data" -k "$2" -p "$3" -c listen_addresses=127.0.0.1 \
        -c max_connections=200 >>"$2/log" 2>&1 &
    server=$!
}
stop() { kill -QUIT "$server" 2>/dev/null; wait "$server" 2>/dev/null; }
start "$@"
while read -r order; do
    case $order in
        stop) stop ;;
        start) start "$@" ;;
    esac
done
stop
rm -rf "$2"
"#;

/// A server, stopped and removed when it goes out of scope or the process ends.
#[derive(Debug)]
pub struct PostgresServer {
    binaries: PathBuf,
    folder: PathBuf,
    port: u16,
    keeper: Child,
    orders: Mutex<Option<ChildStdin>>,
    databases: AtomicU32,
}

impl PostgresServer {
    /// Starts one. Gives the reason where none can be started: there are no binaries of Postgres, or
    /// nobody to run them, since they refuse to run as root.
    ///
    /// # Errors
    /// When the binaries are there and do not work.
    pub fn start() -> Result<std::result::Result<Self, String>> {
        let Some(binaries) = find_binaries() else {
            return Ok(Err("no Postgres is installed (initdb and postgres)".to_owned()));
        };
        let user = match user()? {
            Ok(user) => user,
            Err(reason) => return Ok(Err(reason)),
        };
        let folder = tempfile::Builder::new().prefix("sweep-postgres-").tempdir()?.keep();
        if let Some((uid, gid)) = user {
            chown(&folder, Some(uid), Some(gid))?;
        }
        let as_user = |mut command: Command| {
            if let Some((uid, gid)) = user {
                command.uid(uid).gid(gid);
            }
            command.current_dir(&folder);
            command
        };
        let mut initdb = as_user(Command::new(binaries.join("initdb")));
        let arguments = ["-A", "trust", "-U", "sweep", "-E", "UTF8", "--no-sync", "-D"];
        done(initdb.args(arguments).arg(folder.join("data")).output()?, "initdb")?;
        let port = free_port()?;
        let mut keeper = as_user(Command::new("sh"))
            .args(["-c", KEEPER, "keeper"])
            .arg(&binaries)
            .arg(&folder)
            .arg(port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A signal to the test's group is no order to the server.
            .process_group(0)
            .spawn()
            .context("starting the keeper of a Postgres server")?;
        let orders = Mutex::new(keeper.stdin.take());
        let databases = AtomicU32::new(0);
        let server = Self { binaries, folder, port, keeper, orders, databases };
        server.wait()?;
        Ok(Ok(server))
    }

    /// The address of a database of this server.
    #[must_use]
    pub fn address(&self, database: &str) -> String {
        format!("postgres://sweep@127.0.0.1:{}/{database}", self.port)
    }

    /// A new empty database; gives its address.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn database(&self) -> Result<String> {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(self.address(&name))
    }

    /// Runs a statement in a database and gives its rows as text.
    ///
    /// # Errors
    /// When the server refuses it.
    pub fn psql(&self, database: &str, statement: &str) -> Result<String> {
        let output = Command::new(self.binaries.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement])
            .arg(self.address(database))
            .output()?;
        done(output, statement)
    }

    /// Stops it as a crash would: no orderly end, every connection gone at once.
    ///
    /// # Errors
    /// When its keeper is gone.
    pub fn crash(&self) -> Result<()> {
        self.order("stop")?;
        wait_until("the server to be gone", || self.log(), || Ok((!self.answers()?).then_some(())))
    }

    /// Starts it again on the same folder and port, and waits until it answers.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn restart(&self) -> Result<()> {
        self.order("start")?;
        self.wait()
    }

    fn order(&self, order: &str) -> Result<()> {
        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let pipe = orders.as_mut().context("the keeper has a pipe")?;
        writeln!(pipe, "{order}").context("the keeper of the server is gone")
    }

    fn wait(&self) -> Result<()> {
        wait_until("the server to answer", || self.log(), || Ok(self.answers()?.then_some(())))
    }

    fn answers(&self) -> Result<bool> {
        let status = Command::new(self.binaries.join("pg_isready"))
            .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
            .status()?;
        Ok(status.success())
    }

    /// What the server has written.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.folder.join("log")).unwrap_or_default()).into_owned()
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It ends by itself once its pipe is closed.
        let _ = self.keeper.wait();
    }
}

/// The folder of the binaries: Debian keeps them out of the search path, by version.
fn find_binaries() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .collect();
    // The latest version first.
    folders.sort_by_key(|folder| std::cmp::Reverse(version(folder)));
    folders.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    folders.into_iter().find(|folder| {
        ["initdb", "postgres", "psql", "pg_isready"].iter().all(|name| folder.join(name).is_file())
    })
}

fn version(folder: &Path) -> u32 {
    let name = folder.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    name.and_then(|name| name.parse().ok()).unwrap_or(0)
}

/// Who runs the server: nobody else where this process is not root.
fn user() -> Result<std::result::Result<Option<(u32, u32)>, String>> {
    let number = |arguments: &[&str]| -> Result<Option<u32>> {
        let output = Command::new("id").args(arguments).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok())
    };
    if number(&["-u"])? != Some(0) {
        return Ok(Ok(None));
    }
    for name in ["postgres", "nobody"] {
        if let (Some(uid), Some(gid)) = (number(&["-u", name])?, number(&["-g", name])?) {
            return Ok(Ok(Some((uid, gid))));
        }
    }
    Ok(Err("Postgres does not run as root, and there is no user postgres or nobody".to_owned()))
}

fn done(output: Output, what: &str) -> Result<String> {
    if !output.status.success() {
        bail!("{what}: {}", crate::said(&output));
    }
    let text = String::from_utf8(output.stdout)?;
    ensure!(!text.contains('\0'), "{what}: not a text");
    Ok(text)
}
