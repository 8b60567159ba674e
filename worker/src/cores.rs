//! How the slots of the CPU share its cores: a slot that trains has its own, and those of slots that
//! wait for a run. A lone long run at the end of a sweep so has the whole machine.

/// Cores of this machine that we may use; one where the system does not tell.
pub(crate) fn available() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What a slot of the CPU does with its cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// It trains.
    Trains,
    /// Its trainer starts and needs a core for its canary.
    Starts,
    /// Nothing.
    Lends,
}

/// Threads of each slot that trains; 0 for the others. Every one gets a thread, even where there
/// are more slots than cores.
pub(crate) fn threads(cores: usize, slots: &[Use]) -> Vec<usize> {
    let starting = slots.iter().filter(|&&slot| slot == Use::Starts).count();
    let training = slots.iter().filter(|&&slot| slot == Use::Trains).count();
    let own = cores / slots.len().max(1);
    let free = cores.saturating_sub(starting * own);
    let mut rank = 0;
    slots
        .iter()
        .map(|&slot| {
            if slot != Use::Trains {
                return 0;
            }
            // The first slots take what does not divide evenly.
            let share = (free + training - 1 - rank) / training;
            rank += 1;
            share.max(1)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{
        Use::{Lends, Starts, Trains},
        *,
    };

    #[test]
    fn cores_follow_the_work() {
        for (cores, slots, expected) in [
            (2, &[Trains, Trains][..], &[1, 1][..]),
            (2, &[Trains, Lends], &[2, 0]),
            (2, &[Trains, Starts], &[1, 0]),
            (8, &[Trains, Lends, Trains, Trains, Lends], &[3, 0, 3, 2, 0]),
            (4, &[Trains], &[4]),
            (1, &[Trains, Trains, Lends], &[1, 1, 0]),
            (2, &[Lends, Starts], &[0, 0]),
        ] {
            assert_eq!(threads(cores, slots), expected, "{cores} cores, {slots:?}");
        }
    }
}
