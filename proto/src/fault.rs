//! Why a call failed, for programs: a word in the trailer of a gRPC status.
//!
//! The code of a status is too coarse to act on: a fenced worker stops its run, one whose points
//! are missing sends them again, and both are FAILED_PRECONDITION.

use tonic::{Code, Status};

/// Trailer that carries the word.
const HEADER: &str = "sweep-fault";

macro_rules! faults {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $code:ident;)*) => {
        /// What a client can act on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            $($(#[$doc])* $variant,)*
        }

        impl Fault {
            const ALL: &'static [Self] = &[$(Self::$variant),*];

            const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            const fn code(self) -> Code {
                match self { $(Self::$variant => Code::$code),* }
            }
        }
    };
}

faults! {
    /// A later attempt owns the run, or nobody wants it: stop, set the spool aside.
    Fenced = "FENCED", FailedPrecondition;
    /// Points that this write needs are not durable: send them first.
    PointsMissing = "POINTS_MISSING", FailedPrecondition;
    /// The other end is of another version.
    Version = "VERSION", FailedPrecondition;
    /// The token is missing or wrong.
    Token = "TOKEN", Unauthenticated;
    /// The token opens less than this call.
    Role = "ROLE", PermissionDenied;
    /// The worker must `Join` before this call.
    NotJoined = "NOT_JOINED", FailedPrecondition;
    /// Nothing is known by this name or id.
    NotFound = "NOT_FOUND", NotFound;
    /// More than one thing has this name.
    Ambiguous = "AMBIGUOUS", InvalidArgument;
    /// A field of the message cannot be what it is.
    Field = "FIELD", InvalidArgument;
    /// A limit of the design was passed.
    Limit = "LIMIT", ResourceExhausted;
    /// The coordinator has too much to do or is going down: try again.
    Busy = "BUSY", Unavailable;
    /// The store failed, for example for want of disk space.
    Store = "STORE", Internal;
}

impl Fault {
    /// A status with this fault and a message for people.
    #[must_use]
    pub fn status(self, message: impl Into<String>) -> Status {
        let mut status = Status::new(self.code(), message);
        status.metadata_mut().insert(HEADER, self.name().parse().expect("names are ASCII"));
        status
    }

    /// The fault of a status that a coordinator sent.
    #[must_use]
    pub fn of(status: &Status) -> Option<Self> {
        let name = status.metadata().get(HEADER)?.to_str().ok()?;
        Self::ALL.iter().copied().find(|fault| fault.name() == name)
    }

    /// Whether the same call may succeed later. A status without a fault comes from the network.
    #[must_use]
    pub fn is_transient(status: &Status) -> bool {
        match Self::of(status) {
            Some(fault) => matches!(fault, Self::Busy | Self::Store),
            None => matches!(
                status.code(),
                Code::Unavailable
                    | Code::Cancelled
                    | Code::Aborted
                    | Code::DeadlineExceeded
                    | Code::Unknown
                    | Code::Internal
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_back_from_its_status() {
        for &fault in Fault::ALL {
            assert_eq!(Fault::of(&fault.status("why")), Some(fault));
        }
        assert_eq!(Fault::of(&Status::internal("other")), None);
        assert!(Fault::is_transient(&Status::unavailable("gone")));
        assert!(!Fault::is_transient(&Fault::Fenced.status("late")));
    }
}
