//! A slot's hold on its trainer: starts it, passes messages both ways, and says in words how it
//! ended. The trainer is a child process, or, in tests, a future with a script.

use std::{
    io,
    process::ExitStatus,
    sync::{Arc, Mutex},
    time::Duration,
};

use sweep_spec::attempt::FailureCause;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::mpsc,
    time::timeout,
};
use tracing::Span;

use crate::{
    fake::{Fake, FakeScript},
    frame::{self, FrameError},
    launch::{self, Launch, Purpose},
    memory,
    pipe::{FromTrainer, ToTrainer},
};

/// Messages read ahead of the slot; then the trainer waits. The slot only has to reach its local
/// disk.
pub(crate) const MESSAGES_MAX: usize = 256;

/// A trainer reads its stdin on a thread of its own, so an order that it does not take within this
/// time was sent to a process that is stopped or gone.
const SEND_MAX: Duration = Duration::from_secs(10);

/// A trainer whose stdin is closed exits at once; one that does not is killed.
const EXIT_MAX: Duration = Duration::from_secs(5);

/// Longest line of a trainer's stderr that is passed on.
const LINE_BYTES_MAX: u64 = 8 << 10;

/// What trains in a slot.
#[derive(Clone, Debug)]
pub(crate) enum TrainerSource {
    /// A child process.
    Child { launch: Launch, purpose: Purpose, gpu: bool },
    /// A script; for tests.
    Fake(FakeScript),
}

impl TrainerSource {
    pub(crate) fn is_gpu(&self) -> bool {
        matches!(self, Self::Child { gpu: true, .. })
    }
}

/// What is heard from a trainer.
#[derive(Debug)]
pub(crate) enum Heard {
    Message(FromTrainer),
    /// It ended, or spoke nonsense; nothing follows.
    Gone {
        how: String,
        fault: FailureCause,
    },
}

/// A running trainer.
pub(crate) enum Tether {
    Child(Box<ChildTrainer>),
    Fake(Fake),
}

impl Tether {
    pub(crate) fn start(source: &TrainerSource) -> Result<Self, String> {
        match source {
            TrainerSource::Child { launch, purpose, gpu } => {
                ChildTrainer::start(launch.command(purpose), *gpu)
                    .map(|child| Self::Child(Box::new(child)))
                    .map_err(|error| format!("cannot start {}: {error}", launch.program.display()))
            }
            TrainerSource::Fake(script) => Ok(Self::Fake(Fake::start(script))),
        }
    }

    pub(crate) async fn send(&mut self, message: &ToTrainer) -> Result<(), FrameError> {
        match self {
            Self::Child(child) => child.send(message).await,
            Self::Fake(fake) => fake.send(message),
        }
    }

    /// The next thing heard; may be dropped and called again without loss.
    pub(crate) async fn next(&mut self) -> Heard {
        match self {
            Self::Child(child) => child.next().await,
            Self::Fake(fake) => fake.next().await,
        }
    }

    /// From here on its words are about this attempt.
    pub(crate) fn speaks_of(&self, span: &Span) {
        if let Self::Child(child) = self
            && let Ok(mut voice) = child.voice.lock()
        {
            voice.span = Some(span.clone());
        }
    }

    /// Kills the trainer and waits until it is reaped; how it ended, in words.
    pub(crate) async fn kill(&mut self) -> String {
        match self {
            Self::Child(child) => child.kill().await,
            Self::Fake(fake) => fake.kill(),
        }
    }

    /// Lets an idle trainer go.
    pub(crate) async fn close(self) {
        match self {
            Self::Child(child) => child.close().await,
            Self::Fake(mut fake) => {
                fake.kill();
            }
        }
    }
}

/// A trainer child with its pipes.
pub(crate) struct ChildTrainer {
    child: Child,
    /// `None` once closed.
    stdin: Option<ChildStdin>,
    messages: mpsc::Receiver<Result<FromTrainer, FrameError>>,
    voice: Arc<Mutex<Voice>>,
    gpu: bool,
    /// Kills for lack of memory that were counted before it started.
    oom_kills: Option<u64>,
}

/// What a trainer says on stderr.
#[derive(Debug, Default)]
struct Voice {
    /// The last line; written by its reader, read when the child ended.
    last_words: Option<String>,
    /// What it is about; written by the slot for each run.
    span: Option<Span>,
}

impl ChildTrainer {
    fn start(mut command: Command, gpu: bool) -> io::Result<Self> {
        let oom_kills = memory::kills();
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().expect("the command pipes stdout");
        let stderr = child.stderr.take().expect("the command pipes stderr");
        let voice = Arc::new(Mutex::new(Voice::default()));
        tokio::spawn(pass_on_lines(stderr, child.id(), Arc::clone(&voice)));
        let (sender, messages) = mpsc::channel(MESSAGES_MAX);
        tokio::spawn(read_messages(BufReader::new(stdout), sender));
        Ok(Self { stdin: child.stdin.take(), child, messages, voice, gpu, oom_kills })
    }

    async fn send(&mut self, message: &ToTrainer) -> Result<(), FrameError> {
        let record = frame::encode(&serde_json::to_vec(message)?)?;
        let closed = || FrameError::Io(io::ErrorKind::BrokenPipe.into());
        let stdin = self.stdin.as_mut().ok_or_else(closed)?;
        let write = async {
            stdin.write_all(&record).await?;
            stdin.flush().await
        };
        timeout(SEND_MAX, write)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(FrameError::Io)
    }

    async fn next(&mut self) -> Heard {
        match self.messages.recv().await {
            Some(Ok(message)) => Heard::Message(message),
            Some(Err(error)) => {
                self.kill().await;
                let how = format!("was killed, its pipe is broken: {error}");
                Heard::Gone { how, fault: FailureCause::Infrastructure }
            }
            None => {
                let status = self.reap().await;
                let words = self.voice.lock().ok().and_then(|voice| voice.last_words.clone());
                let starved = self.starved(status, words.as_deref());
                let fault = if starved { FailureCause::Memory } else { self.fault(status) };
                let mut how =
                    status.map_or_else(|| "cannot be reaped".to_owned(), launch::describe);
                if starved {
                    how = format!("ran out of memory and {how}");
                }
                if let Some(words) = words {
                    how = format!("{how}; its last words: {words}");
                }
                Heard::Gone { how, fault }
            }
        }
    }

    /// Whether it ended for lack of memory, as far as that can be told: the system counted a kill
    /// since it started, or its last words say so. A kill that nobody counted may be anybody's.
    fn starved(&self, status: Option<ExitStatus>, words: Option<&str>) -> bool {
        use std::os::unix::process::ExitStatusExt;
        let killed = status.is_some_and(|status| status.signal() == Some(9));
        let counted = memory::kills().zip(self.oom_kills).is_some_and(|(now, then)| now > then);
        killed && counted || words.is_some_and(memory::ran_out)
    }

    /// A GPU's driver may crash through no fault of the run, and so may anybody kill a process; any
    /// other end without a word is the program's.
    fn fault(&self, status: Option<ExitStatus>) -> FailureCause {
        use std::os::unix::process::ExitStatusExt;
        let killed = status.is_none_or(|status| status.signal() == Some(9));
        if self.gpu || killed { FailureCause::Infrastructure } else { FailureCause::Program }
    }

    async fn kill(&mut self) -> String {
        // The trainer starts no process, so its group has no other member.
        if let Err(error) = self.child.start_kill() {
            tracing::debug!("a trainer was gone before it was killed: {error}");
        }
        self.reap().await.map_or_else(|| "cannot be reaped".to_owned(), launch::describe)
    }

    /// Ends when the child has: two trainers in one slot would share its device. One that is stuck
    /// inside a driver keeps its slot.
    async fn close(mut self) {
        if self.reap().await.is_none() {
            tracing::error!(id = self.child.id(), "a trainer does not die; its slot waits for it");
            let _ = self.child.wait().await;
        }
    }

    /// Waits for the end of the child, which is near: its stdin is closed, its stdout is at an
    /// end, or it was killed.
    async fn reap(&mut self) -> Option<ExitStatus> {
        self.stdin = None;
        if let Ok(Ok(status)) = timeout(EXIT_MAX, self.child.wait()).await {
            return Some(status);
        }
        let _ = self.child.start_kill();
        // A process stuck inside a driver survives even that; its run must not wait for it.
        timeout(EXIT_MAX, self.child.wait()).await.ok()?.ok()
    }
}

async fn read_messages(
    mut stdout: impl AsyncRead + Unpin,
    sender: mpsc::Sender<Result<FromTrainer, FrameError>>,
) {
    loop {
        let message = match frame::read_async(&mut stdout).await {
            Ok(None) => return,
            Ok(Some(payload)) => serde_json::from_slice(&payload).map_err(FrameError::from),
            Err(error) => Err(error),
        };
        let last = message.is_err();
        if sender.send(message).await.is_err() || last {
            return;
        }
    }
}

async fn pass_on_lines(stderr: impl AsyncRead + Unpin, id: Option<u32>, voice: Arc<Mutex<Voice>>) {
    let mut input = BufReader::new(stderr);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut input).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line).replace(char::is_control, " ");
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        let Ok(mut voice) = voice.lock() else { return };
        let span = voice.span.clone().unwrap_or_else(Span::none);
        span.in_scope(|| tracing::info!(trainer = id, "{text}"));
        voice.last_words = Some(text.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    async fn heard(bytes: &[u8]) -> Vec<Result<FromTrainer, FrameError>> {
        let (sender, mut receiver) = mpsc::channel(MESSAGES_MAX);
        read_messages(bytes, sender).await;
        let mut all = Vec::new();
        while let Some(message) = receiver.recv().await {
            all.push(message);
        }
        all
    }

    #[tokio::test]
    async fn nonsense_ends_the_conversation() {
        let progress = FromTrainer::Progress { step: 1, tokens_per_second: 2.0 };
        let good = frame::encode(&serde_json::to_vec(&progress).unwrap()).unwrap();
        let mut bytes = good.clone();
        bytes.extend(frame::encode(b"{}").unwrap());
        bytes.extend(&good);
        let all = heard(&bytes).await;
        assert_eq!(all.len(), 2);
        assert!(matches!(&all[0], Ok(message) if *message == progress));
        assert!(matches!(all[1], Err(FrameError::Meaning(_))));

        let mut torn = good.clone();
        torn.extend(&good[..good.len() - 1]);
        assert!(matches!(heard(&torn).await[1], Err(FrameError::Truncated)));
    }

    /// A child that is no trainer of ours: its words and its end are told.
    #[tokio::test]
    async fn a_child_that_dies_tells_its_last_words() {
        let mut tether = shell("echo the driver is broken >&2; kill -SEGV $$");
        let Heard::Gone { how, fault } = tether.next().await else { panic!("a message") };
        assert!(how.contains("SIGSEGV") && how.contains("the driver is broken"), "{how}");
        assert_eq!(fault, FailureCause::Program);
    }

    #[tokio::test]
    async fn a_child_that_runs_out_of_memory_lacks_memory() {
        let mut tether = shell("echo memory allocation of 4096 bytes failed >&2; kill -ABRT $$");
        let Heard::Gone { how, fault } = tether.next().await else { panic!("a message") };
        assert!(how.starts_with("ran out of memory and crashed with signal SIGABRT"), "{how}");
        assert_eq!(fault, FailureCause::Memory);
    }

    #[tokio::test]
    async fn a_child_that_prints_noise_is_killed() {
        let mut tether = shell("echo some driver banner that is no frame at all; sleep 60");
        let Heard::Gone { how, fault } = tether.next().await else { panic!("a message") };
        assert!(how.contains("pipe is broken"), "{how}");
        assert_eq!(fault, FailureCause::Infrastructure);
    }

    #[tokio::test]
    async fn a_child_ends_with_its_stdin() {
        let tether = shell("cat >/dev/null");
        tether.close().await;
    }

    fn shell(script: &str) -> Tether {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Tether::Child(Box::new(ChildTrainer::start(command, false).unwrap()))
    }
}
