//! Which steps of a run's curve each of its attempts owns.
//!
//! An attempt begins at the beginning, at the fork of its trunk, or after a checkpoint that an
//! earlier attempt wrote: not always the one before it, because another worker that took the run
//! over has no checkpoint and begins anew. The lineage goes back from the attempt that began last,
//! from each to the one whose checkpoint it began after; what the others have stays stored and is
//! no part of the curve.

use crate::{
    run::{count, int},
    sql::{Row, Tx, query},
};

/// Where an attempt began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// Step of the checkpoint; 0 for the beginning.
    pub(crate) step: u64,
    /// Number of the attempt that wrote it; none at the beginning and at a fork.
    pub(crate) attempt: Option<u32>,
}

/// The step before the first that is the own one of an attempt that began after `step`.
pub(crate) fn after(step: u64) -> i64 {
    // From the beginning, step 0 itself is its own too.
    if step == 0 { -1 } else { int(step) }
}

/// Steps of the curve that are an attempt's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Above this one.
    pub(crate) after: i64,
    /// Up to this one.
    pub(crate) until: i64,
}

impl Part {
    /// Of an attempt of which no more is known than that it is the last one.
    pub(crate) const OPEN: Self = Self { after: -1, until: i64::MAX };
}

/// The parts of attempts, given where each of them began, first to last; `None` never began. `fork`
/// is the step that the run forks from its trunk at, 0 for a run of its own: what begins there or
/// before continues no attempt.
pub(crate) fn parts(starts: &[Option<Start>], fork: u64) -> Vec<Part> {
    let none = |start: &Option<Start>| start.map_or(-1, |start| after(start.step));
    let mut parts: Vec<Part> =
        starts.iter().map(none).map(|after| Part { after, until: after }).collect();
    let begun_before = |place: usize| starts[..place].iter().rposition(Option::is_some);
    let mut until = i64::MAX;
    let mut at = begun_before(starts.len());
    while let Some(place) = at {
        let Some(start) = starts[place] else { break };
        parts[place].until = until.max(after(start.step));
        until = until.min(after(start.step));
        let writer = start.attempt.and_then(|number| place_of(number).filter(|&at| at < place));
        // Without a known writer the curve goes on as it was.
        at = if start.step <= fork { None } else { writer.or_else(|| begun_before(place)) };
    }
    parts
}

/// Place of an attempt among those of its run.
fn place_of(number: u32) -> Option<usize> {
    usize::try_from(number).ok()?.checked_sub(1)
}

/// An attempt of the database that begins.
#[derive(Clone, Copy)]
pub(crate) struct Beginning {
    pub(crate) attempt_no: i64,
    pub(crate) run_no: i64,
    pub(crate) number: u32,
    pub(crate) step: u64,
}

/// Records where an attempt began, once, and so which steps of the curve belong to whom. It began
/// after the checkpoint of the last attempt to write that step whose files are there: one of its
/// worker, or one that its worker was sent to fetch.
pub(crate) async fn begin(tx: &mut Tx, beginning: Beginning) -> Result<(), sqlx::Error> {
    let Beginning { attempt_no, run_no, number, step } = beginning;
    let set = query(
        "UPDATE attempt SET resume_step = $1, lineage_after = $2, resume_attempt = \
             (SELECT max(writer.number) FROM checkpoint \
              JOIN attempt writer ON writer.attempt_no = checkpoint.attempt_no \
              WHERE checkpoint.run_no = attempt.run_no AND checkpoint.step = $1 AND $1 > 0 \
              AND writer.number < attempt.number AND (checkpoint.worker_no = attempt.worker_no \
              OR EXISTS (SELECT 1 FROM checkpoint_copy copy \
                  WHERE copy.run_no = checkpoint.run_no AND copy.step = checkpoint.step \
                  AND copy.attempt_no = checkpoint.attempt_no \
                  AND copy.worker_no = attempt.worker_no))) \
         WHERE attempt_no = $3 AND resume_step IS NULL",
    )
    .bind(int(step))
    .bind(after(step))
    .bind(attempt_no)
    .execute(&mut *tx)
    .await?;
    if set == 1 && number > 1 {
        share_out(tx, run_no, number).await?;
    }
    Ok(())
}

/// Gives the attempts of a run up to this one their parts.
async fn share_out(tx: &mut Tx, run_no: i64, number: u32) -> Result<(), sqlx::Error> {
    let rows = query(
        "SELECT resume_step, resume_attempt, lineage_after, lineage_until, \
         coalesce(run.parent_step, 0) FROM attempt JOIN run USING (run_no) \
         WHERE run_no = $1 AND number <= $2 ORDER BY number",
    )
    .bind(run_no)
    .bind(number)
    .fetch_all(&mut *tx)
    .await?;
    let start = |row: &Row| -> Result<Option<Start>, sqlx::Error> {
        let attempt = row.try_get(1)?;
        let step: Option<i64> = row.try_get(0)?;
        Ok(step.map(|step| Start { step: count(step), attempt }))
    };
    let part = |row: &Row| -> Result<Part, sqlx::Error> {
        Ok(Part { after: row.try_get(2)?, until: row.try_get(3)? })
    };
    let starts: Vec<Option<Start>> = rows.iter().map(start).collect::<Result<_, _>>()?;
    let fork = rows.last().map_or(Ok(0), |row| row.try_get(4).map(count))?;
    for ((number, now), row) in (1_u32..).zip(parts(&starts, fork)).zip(&rows) {
        if part(row)? != now {
            query(
                "UPDATE attempt SET lineage_after = $1, lineage_until = $2 \
                 WHERE run_no = $3 AND number = $4",
            )
            .bind(now.after)
            .bind(now.until)
            .bind(run_no)
            .bind(number)
            .execute(&mut *tx)
            .await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn start(step: u64, attempt: u32) -> Option<Start> {
        Some(Start { step, attempt: (attempt > 0).then_some(attempt) })
    }

    fn shares(starts: &[Option<Start>]) -> Vec<(i64, i64)> {
        shares_of_branch(starts, 0)
    }

    fn shares_of_branch(starts: &[Option<Start>], fork: u64) -> Vec<(i64, i64)> {
        parts(starts, fork).iter().map(|part| (part.after, part.until)).collect()
    }

    const END: i64 = i64::MAX;

    #[test]
    fn an_attempt_owns_what_lies_beyond_the_checkpoint_it_began_after() {
        assert_eq!(shares(&[start(0, 0)]), [(-1, END)]);
        assert_eq!(shares(&[start(0, 0), start(20, 1)]), [(-1, 20), (20, END)]);
        assert_eq!(shares(&[start(0, 0), start(0, 0)]), [(-1, -1), (-1, END)]);
    }

    #[test]
    fn an_attempt_elsewhere_that_began_anew_takes_nothing_from_a_lineage_that_goes_on() {
        let starts = [start(0, 0), start(20, 1), start(0, 0), start(40, 2)];
        assert_eq!(shares(&starts), [(-1, 20), (20, 40), (-1, -1), (40, END)]);
    }

    #[test]
    fn attempts_that_never_began_own_nothing_once_another_has() {
        assert_eq!(
            shares(&[None, start(0, 0), None, start(5, 2)]),
            [(-1, -1), (-1, 5), (-1, -1), (5, END)]
        );
    }

    #[test]
    fn a_branch_that_forks_again_leaves_what_it_had() {
        let starts = [start(10, 0), start(15, 1), start(10, 0)];
        assert_eq!(shares_of_branch(&starts[..2], 10), [(10, 15), (15, END)]);
        assert_eq!(shares_of_branch(&starts, 10), [(10, 10), (15, 15), (10, END)]);
        // The first was alone with its trunk's steps, and came to an end before the fork.
        assert_eq!(shares_of_branch(&[start(0, 0), start(10, 0)], 10), [(-1, -1), (10, END)]);
    }

    #[test]
    fn without_a_known_writer_the_curve_goes_on_as_it_was() {
        assert_eq!(
            shares(&[start(0, 0), start(20, 1), start(15, 0)]),
            [(-1, 15), (20, 20), (15, END)]
        );
    }

    /// Histories as workers make them: each attempt begins at 0 or after a checkpoint that one
    /// before it wrote beyond its own start.
    fn histories() -> impl Strategy<Value = Vec<Option<Start>>> {
        prop::collection::vec((any::<prop::sample::Index>(), 0_u64..30, 0_u8..8), 1..12).prop_map(
            |choices| {
                let mut starts: Vec<Option<Start>> = Vec::new();
                for (writer, more, kind) in choices {
                    let begun: Vec<usize> =
                        (0..starts.len()).filter(|&at| starts[at].is_some()).collect();
                    starts.push(match kind {
                        0 => None,
                        1 | 2 => start(0, 0),
                        _ if begun.is_empty() => start(0, 0),
                        _ => {
                            let place = begun[writer.index(begun.len())];
                            let first = starts[place].map_or(0, |start| start.step);
                            let number = u32::try_from(place + 1).expect("a few");
                            start(first + 1 + more, number)
                        }
                    });
                }
                starts
            },
        )
    }

    proptest! {
        #[test]
        fn every_step_belongs_to_exactly_one_attempt(starts in histories(), step in 0_i64..400) {
            let owners = parts(&starts, 0)
                .iter()
                .filter(|part| part.after < step && step <= part.until)
                .count();
            let begun = starts.iter().any(Option::is_some);
            prop_assert_eq!(owners, usize::from(begun));
        }
    }
}
