//! How good the order is: against the best order of small cases, and against the lower bound of
//! whole grids whose costs are not what was predicted.

use proptest::prelude::*;

use super::*;
use crate::rehearsal::{Cluster, makespans, predicted};

/// The best makespan of all ways to give runs to slots.
fn optimum(lengths: &[f64], loads: &mut [f64], best: &mut f64) {
    let Some((&first, rest)) = lengths.split_first() else {
        *best = best.min(loads.iter().copied().fold(0.0, f64::max));
        return;
    };
    for slot in 0..loads.len() {
        loads[slot] += first;
        optimum(rest, loads, best);
        loads[slot] -= first;
        // Empty slots are alike.
        if loads[slot] == 0.0 {
            return;
        }
    }
}

proptest! {
    /// Longest first is at most 4/3 - 1/3m of the best (Graham 1969, "Bounds on multiprocessing
    /// timing anomalies"), whatever the runs.
    #[test]
    fn no_small_case_is_worse_than_the_bound_of_longest_first(
        runs in prop::collection::hash_set((1..6_u32, 1..40_u64), 1..9),
        slots in 1..4_u32,
    ) {
        let runs: Vec<RunConfig> =
            runs.into_iter().map(|(width, steps)| config(width * 32, steps * 50)).collect();
        let lengths: Vec<f64> = runs.iter().map(predicted).collect();
        let mut best = f64::INFINITY;
        optimum(&lengths, &mut vec![0.0; slots as usize], &mut best);
        let found = Cluster::new(slots, false, &predicted).train(&runs);
        let bound = 4.0 / 3.0 - 1.0 / (3.0 * f64::from(slots));
        // Times are cut to nanoseconds.
        prop_assert!(found >= best - 1e-6);
        prop_assert!(found <= best * bound + 1e-6, "{found} of {best}");
    }
}

#[test]
fn grids_with_costs_off_by_half_end_within_a_twentieth_of_the_bound() {
    for grid in makespans(20) {
        assert!(grid.ratios.iter().all(|&ratio| ratio <= 1.05), "{grid:?}");
    }
}
