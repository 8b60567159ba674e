//! How a daemon is asked to end: from signals, or from the program that runs it.

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// What the daemon is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shutdown {
    /// Go on.
    #[default]
    None,
    /// Stop every run at its next step with a checkpoint, report, and leave: the machine is taken
    /// away, or its owner wants it back.
    Terminate,
    /// The same, asked for at the terminal.
    Interrupt,
    /// Leave at once; runs go on from their last checkpoint.
    Now,
}

/// How a daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Asked to leave, and nothing was under way.
    Done,
    /// Asked to leave with work left: start it again elsewhere or later.
    Drained,
    /// Interrupted at the terminal.
    Interrupted,
}

impl Ended {
    /// The exit code of a process that ends so.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Drained => 75,
            Self::Interrupted => 130,
        }
    }
}

/// Listens for SIGTERM, SIGUSR1 and SIGUSR2 (the early notices of batch systems) and SIGINT; the
/// second SIGINT or SIGTERM ends the daemon at once.
///
/// # Errors
/// When the system gives no signal handler.
pub fn signals() -> std::io::Result<watch::Receiver<Shutdown>> {
    let (sender, receiver) = watch::channel(Shutdown::None);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut notice = signal(SignalKind::user_defined1())?;
    let mut other_notice = signal(SignalKind::user_defined2())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        loop {
            let (asked, urgent) = tokio::select! {
                _ = terminate.recv() => (Shutdown::Terminate, true),
                _ = interrupt.recv() => (Shutdown::Interrupt, true),
                _ = notice.recv() => (Shutdown::Terminate, false),
                _ = other_notice.recv() => (Shutdown::Terminate, false),
            };
            sender.send_modify(|shutdown| *shutdown = next(*shutdown, asked, urgent));
        }
    });
    Ok(receiver)
}

fn next(before: Shutdown, asked: Shutdown, urgent: bool) -> Shutdown {
    match before {
        Shutdown::None => asked,
        _ if urgent => Shutdown::Now,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_signal_is_urgent_but_a_second_notice_is_not() {
        let first = next(Shutdown::None, Shutdown::Interrupt, true);
        assert_eq!(first, Shutdown::Interrupt);
        assert_eq!(next(first, Shutdown::Interrupt, true), Shutdown::Now);
        assert_eq!(next(Shutdown::Terminate, Shutdown::Terminate, false), Shutdown::Terminate);
        assert_eq!(next(Shutdown::None, Shutdown::Terminate, false), Shutdown::Terminate);
    }

    #[test]
    fn exit_codes_are_the_documented_ones() {
        let codes = [Ended::Done, Ended::Drained, Ended::Interrupted].map(Ended::exit_code);
        assert_eq!(codes, [0, 75, 130]);
    }
}
