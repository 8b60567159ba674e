//! The way to a coordinator: where its access file is, and what its refusals mean for a script.

use std::path::{Path, PathBuf};

use sweep_proto::{
    access::{ACCESS_FILE, ACCESS_VARIABLE, Access, state_folder},
    client::{Connection, Control},
    fault::Fault,
    v1,
};
use tonic::Status;

use crate::exit::{Exit, Failure, OrExit as _};

/// Which coordinator to ask.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct AccessArgs {
    /// The access file of the coordinator [env: SWEEP_ACCESS] [default: .sweep/access.json]
    // The variable is read below: it names the place for every command, and is no contradiction to
    // an option that asks for another.
    #[arg(long, value_name = "FILE")]
    access: Option<PathBuf>,
}

impl AccessArgs {
    /// Opens a connection.
    ///
    /// # Errors
    /// A [`Failure`] with exit code 3.
    pub(crate) async fn connect(&self) -> Result<Control, Failure> {
        Ok(self.open().await?.control())
    }

    /// Opens a connection that either service can be called over.
    ///
    /// # Errors
    /// A [`Failure`] with exit code 3.
    pub(crate) async fn open(&self) -> Result<Connection, Failure> {
        open(&Access::read(&self.path()).or_exit(Exit::Unreachable)?).await
    }

    /// The access file: that of the option, of the environment, or of the state folder.
    pub(crate) fn path(&self) -> PathBuf {
        let named = std::env::var_os(ACCESS_VARIABLE).filter(|path| !path.is_empty());
        let path = self.access.clone().or_else(|| named.map(PathBuf::from));
        path.unwrap_or_else(|| state_folder().join(ACCESS_FILE))
    }

    /// The file of the option alone.
    pub(crate) fn given(&self) -> Option<&Path> {
        self.access.as_deref()
    }
}

/// Opens a connection and makes one call, so that a wrong token or version shows here.
async fn open(access: &Access) -> Result<Connection, Failure> {
    let connection = Connection::open(access).await.or_exit(Exit::Unreachable)?;
    connection.control().get_info(v1::GetInfoRequest {}).await.map_err(refused)?;
    Ok(connection)
}

/// Opens a connection to a coordinator of this process.
///
/// # Errors
/// A [`Failure`] with exit code 3.
#[cfg(any(test, feature = "local"))]
pub(crate) async fn connect(access: &Access) -> Result<Control, Failure> {
    Ok(open(access).await?.control())
}

/// A refused call with its exit code.
pub(crate) fn refused(status: Status) -> Failure {
    let exit = match Fault::of(&status) {
        Some(Fault::NotFound) => Exit::NoMatch,
        Some(Fault::Ambiguous | Fault::Field | Fault::Limit) => Exit::Usage,
        Some(Fault::Token | Fault::Role | Fault::Version | Fault::Busy) | None => Exit::Unreachable,
        Some(_) => Exit::Failed,
    };
    let message = status.message();
    if message.contains("hint:") {
        return Failure::message(exit, message);
    }
    let hint = match exit {
        Exit::NoMatch => "; hint: `sweep status` lists what the coordinator knows",
        Exit::Unreachable => "; hint: is the coordinator running, and is this its access file?",
        Exit::Usage => "; hint: `--help` after the command says what it takes",
        _ => "; hint: the log of the coordinator says more",
    };
    Failure::message(exit, format!("the coordinator refused: {message}{hint}"))
}

/// Turns `last` into the id of the latest sweep; everything else goes to the coordinator as it is.
///
/// # Errors
/// Exit code 4 where there is no sweep.
pub(crate) async fn select_sweep(control: &mut Control, name: &str) -> Result<String, Failure> {
    if name != "last" {
        return Ok(name.to_owned());
    }
    let reply = control.list_sweeps(v1::ListSweepsRequest {}).await.map_err(refused)?;
    reply.into_inner().sweeps.into_iter().next().map(|sweep| sweep.sweep_id).ok_or_else(|| {
        let message = "the coordinator has no sweep yet; hint: sweep submit RECIPE";
        Failure::message(Exit::NoMatch, message)
    })
}

/// Runs a command that talks to a coordinator.
///
/// # Errors
/// Those of the command, and exit code 1 where the system gives no event queue.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .or_exit(Exit::Failed)?
        .block_on(future)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_their_exit_codes() {
        for (fault, exit) in [
            (Fault::Token, Exit::Unreachable),
            (Fault::Version, Exit::Unreachable),
            (Fault::NotFound, Exit::NoMatch),
            (Fault::Ambiguous, Exit::Usage),
            (Fault::Store, Exit::Failed),
        ] {
            let failure = refused(fault.status("no"));
            assert_eq!(failure.exit(), exit, "{fault:?}");
            assert!(failure.to_string().contains("; hint: "), "{failure}");
        }
        assert_eq!(refused(Status::unavailable("gone")).exit(), Exit::Unreachable);
    }

    #[test]
    fn nobody_listening_is_exit_code_3() {
        // Port 1 of loopback: nothing of ours, and not a port that a test may be given.
        let access = Access::plain("http://127.0.0.1:1", "0");
        let failure = block_on(connect(&access)).expect_err("nobody listens");
        assert_eq!(failure.exit(), Exit::Unreachable);
        assert!(failure.to_string().starts_with("no coordinator answers at http://127.0.0.1:1"));
    }
}
