//! The coordinator of `sweep run`: inside this process, on a free loopback port, its store in the
//! output folder. The store's lock keeps a second command off the same folder.

use std::path::{Path, PathBuf};

use coordinator::{Config, Coordinator, CoordinatorError};
use sweep_proto::access::Access;
use sweep_store::StoreError;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::exit::{Exit, Failure, OrExit as _};

/// Any free port of the loopback interface.
const ADDRESS: &str = "127.0.0.1:0";

/// A coordinator that serves.
pub(crate) struct LocalCoordinator {
    access: Access,
    access_path: PathBuf,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), CoordinatorError>>,
}

impl LocalCoordinator {
    /// Opens the store in `state` and serves it; on a network file system only where that is allowed.
    ///
    /// # Errors
    /// Exit code 2 where another command works in the folder or it cannot be used.
    pub(crate) async fn start(
        state: &Path,
        allow_network_filesystem: bool,
    ) -> Result<Self, Failure> {
        let config = Config {
            store: format!("sqlite:{}", state.join("sweep.db").display()),
            state: state.to_owned(),
            allow_network_filesystem,
            ..Config::default()
        };
        std::fs::create_dir_all(state).or_exit(Exit::Usage)?;
        let listener = coordinator::bind(ADDRESS).await.or_exit(Exit::Failed)?;
        let coordinator =
            Coordinator::prepare(config, listener).await.map_err(|error| refused(error, state))?;
        let (access, access_path) = (coordinator.access().clone(), coordinator.access_file());
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(coordinator.serve(async move {
            // A sender that is gone means the same as one that spoke.
            let _ = stopped.await;
        }));
        Ok(Self { access, access_path, stop, served })
    }

    /// Address and token.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// The file that a worker finds them in.
    pub(crate) fn access_path(&self) -> &Path {
        &self.access_path
    }

    /// Commits what came in and closes the store.
    ///
    /// # Errors
    /// Exit code 1.
    pub(crate) async fn stop(self) -> Result<(), Failure> {
        // It may have ended by itself; then its result says why.
        let _ = self.stop.send(());
        self.served.await.or_exit(Exit::Failed)?.or_exit(Exit::Failed)
    }
}

/// Why the folder cannot be worked in; the store's own hint names an option of the coordinator.
fn refused(error: CoordinatorError, state: &Path) -> Failure {
    match error {
        CoordinatorError::Store(StoreError::Locked { .. }) => Failure::message(
            Exit::Usage,
            format!(
                "another `sweep run` is at work in `{}`; hint: let it end, stop it with Ctrl-C, or \
                 give another folder with --out",
                state.display()
            ),
        ),
        CoordinatorError::Store(StoreError::NetworkFileSystem { kind, .. }) => Failure::message(
            Exit::Usage,
            format!(
                "`{}` lies on a network file system ({kind}), where the locks of the store in it do \
                 not hold; hint: give a folder on a local disk with --out; \
                 --allow-network-filesystem goes on at your own risk, which is small while no other \
                 machine opens the folder",
                state.display()
            ),
        ),
        other => Failure::new(Exit::Usage, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::connect;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Runtime::new().expect("threads").block_on(future)
    }

    #[test]
    fn a_wrong_token_is_exit_code_3() {
        block_on(async {
            let folder = tempfile::tempdir().expect("a folder");
            let coordinator = LocalCoordinator::start(folder.path(), false).await.expect("starts");
            connect(coordinator.access()).await.expect("the right token opens");
            let wrong = Access { token: "0".repeat(64), ..coordinator.access().clone() };
            let failure = connect(&wrong).await.expect_err("refused");
            assert_eq!(failure.exit(), Exit::Unreachable);
            assert!(failure.to_string().contains("hint:"), "{failure}");
            coordinator.stop().await.expect("stops");
        });
    }

    #[test]
    fn a_second_command_in_the_same_folder_is_refused() {
        block_on(async {
            let folder = tempfile::tempdir().expect("a folder");
            let first = LocalCoordinator::start(folder.path(), false).await.expect("starts");
            let failure =
                LocalCoordinator::start(folder.path(), false).await.err().expect("refused");
            assert_eq!(failure.exit(), Exit::Usage);
            let text = failure.to_string();
            assert!(text.starts_with("another `sweep run` is at work in"), "{text}");
            assert!(text.ends_with("give another folder with --out"), "{text}");
            // The first one still answers: its access file was left alone.
            connect(&Access::read(first.access_path()).expect("reads")).await.expect("answers");
            first.stop().await.expect("stops");
            let again = LocalCoordinator::start(folder.path(), false).await.expect("free again");
            again.stop().await.expect("stops");
        });
    }
}
