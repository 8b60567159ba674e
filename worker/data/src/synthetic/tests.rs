use std::collections::HashMap;

use super::*;

fn source(vocabulary: u32, entropy: f64, contexts: u32) -> Synthetic {
    Synthetic { vocabulary, entropy, contexts, tokens: 1_000_000, seed: 7 }
}

fn draw(source: &Synthetic, stream: u64, tokens: usize) -> Vec<u8> {
    let process = Process::new(source);
    let mut text = process.text(source.seed, stream);
    (0..tokens).map(|_| text.next_symbol()).collect()
}

#[test]
fn the_distribution_has_the_wanted_entropy() {
    for vocabulary in [2, 3, 64, 256] {
        let largest = (vocabulary as f64).ln();
        for share in [0.001, 0.3, 0.5, 0.9, 0.999] {
            let q = distribution(vocabulary, share * largest);
            let entropy = entropy_nats(&q);
            assert!((entropy - share * largest).abs() < 1e-12, "{vocabulary}, {share}: {entropy}");
            assert!((q.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }
}

#[test]
fn every_table_is_an_order_of_all_symbols() {
    let process = Process::new(&source(40, 1.0, 30));
    assert_eq!(process.tables.len(), 30 * 40);
    for table in process.tables.chunks(40) {
        let mut symbols = table.to_vec();
        symbols.sort_unstable();
        assert!(symbols.into_iter().eq(0..40));
    }
}

/// The mean of -ln p under the true process equals the closed form within five standard errors.
#[test]
fn the_closed_form_equals_the_empirical_entropy() {
    for (vocabulary, entropy, contexts) in [(64, 1.5, 500), (256, 3.0, 2000), (2, 0.4, 3)] {
        let source = source(vocabulary, entropy, contexts);
        let process = Process::new(&source);
        let q = distribution(vocabulary as usize, entropy);
        let tokens = draw(&source, 0, 400_000);
        let mut before = [0, 0];
        let (mut sum, mut squares) = (0.0, 0.0);
        for &token in &tokens {
            let rank = process.ranks(before).iter().position(|&s| s == token).unwrap();
            let nats = -q[rank].ln();
            sum += nats;
            squares += nats * nats;
            before = [before[1], token];
        }
        let count = tokens.len() as f64;
        let mean = sum / count;
        let error = ((squares / count - mean * mean) / count).sqrt();
        assert!(
            (mean - entropy).abs() < 5.0 * error,
            "{vocabulary} symbols: {mean} +- {error} against {entropy}"
        );
    }
}

/// Pairs of symbols, sorted by frequency: the commonest hundredth holds a large share, and the
/// frequencies fall over decades with a slope near Zipf's.
#[test]
fn contexts_are_heavy_tailed() {
    let tokens = draw(&source(64, 1.5, 500), 0, 1_000_000);
    let mut counts: HashMap<[u8; 2], u64> = HashMap::new();
    tokens.windows(2).for_each(|pair| *counts.entry([pair[0], pair[1]]).or_default() += 1);
    let mut counts: Vec<u64> = counts.into_values().collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let top: u64 = counts[..counts.len() / 100].iter().sum();
    let share = top as f64 / 1e6;
    assert!(share > 0.2, "the commonest hundredth of pairs holds {share}");
    let slope = |low: usize, high: usize| {
        (counts[low - 1] as f64 / counts[high - 1] as f64).ln() / (high as f64 / low as f64).ln()
    };
    for (low, high) in [(3, 30), (30, 300), (300, 2000)] {
        let slope = slope(low, high);
        assert!(slope > 0.4 && slope < 3.0, "ranks {low} to {high}: {slope}");
    }
}

/// A learner that counts (orders 0 to 2, each smoothed by the one below) predicts before it
/// counts. Its excess over the entropy keeps falling by a like factor per doubling of the tokens,
/// and no predictor gets below the entropy.
#[test]
fn the_excess_of_a_counting_learner_falls_like_a_power() {
    let source = source(64, 1.5, 500);
    let tokens = draw(&source, 0, 1 << 20);
    let mut learner = Counts::default();
    let mut excess = Vec::new();
    let (mut sum, mut since) = (0.0, 0);
    for (i, window) in tokens.windows(3).enumerate() {
        let p = learner.predict_and_count([window[0], window[1]], window[2], 64.0);
        sum -= p.ln();
        since += 1;
        if (i + 1).is_power_of_two() && i + 1 >= 1 << 12 {
            excess.push(sum / f64::from(since) - 1.5);
            (sum, since) = (0.0, 0);
        }
    }
    // The first entry averages from the start; the others are each a doubling.
    let factors: Vec<f64> = excess[1..].windows(2).map(|pair| pair[1] / pair[0]).collect();
    assert!(excess.iter().all(|&e| e > 0.0), "{excess:?}");
    assert!(factors.iter().all(|&f| f > 0.5 && f < 0.95), "{excess:?} {factors:?}");
    assert!(excess[1] > 0.3, "there is something to learn: {excess:?}");
}

/// How often each symbol followed a context.
type Order = HashMap<[Option<u8>; 2], HashMap<u8, f64>>;

#[derive(Default)]
struct Counts {
    orders: [Order; 3],
}

impl Counts {
    fn predict_and_count(&mut self, before: [u8; 2], token: u8, vocabulary: f64) -> f64 {
        let keys = [[None, None], [None, Some(before[1])], [Some(before[0]), Some(before[1])]];
        let mut p = 1.0 / vocabulary;
        for (order, key) in self.orders.iter_mut().zip(keys) {
            let counts = order.entry(key).or_default();
            let total: f64 = counts.values().sum();
            // Witten and Bell 1991: weight of the order below by the number of kinds seen.
            let kinds = counts.len().max(1) as f64;
            p = (counts.get(&token).copied().unwrap_or(0.0) + kinds * p) / (total + kinds);
            *counts.entry(token).or_default() += 1.0;
        }
        p
    }
}

/// Guards the id: when this fails, the text has changed, so raise `FORMAT` with the hash.
#[test]
fn the_text_is_the_golden_one() {
    let text = draw(&source(64, 1.5, 500), 0, 10_000);
    assert_eq!(&blake3::hash(&text).to_hex()[..16], "86755eb492731061");
    assert_ne!(text[..100], draw(&source(64, 1.5, 500), 1, 100));
}

#[test]
fn parameters_without_a_process_are_named() {
    let good = source(64, 1.5, 500);
    for (bad, part) in [
        (Synthetic { vocabulary: 1, ..good.clone() }, "vocabulary = 1 is not from 2 to 256"),
        (Synthetic { vocabulary: 257, ..good.clone() }, "vocabulary = 257"),
        (Synthetic { entropy: 0.0, ..good.clone() }, "entropy = 0 is not above 0"),
        (Synthetic { entropy: 4.2, ..good.clone() }, "below ln(64) = 4.1589"),
        (Synthetic { entropy: f64::NAN, ..good.clone() }, "entropy = NaN"),
        (Synthetic { contexts: 0, ..good.clone() }, "contexts = 0"),
        (Synthetic { contexts: 70_000, ..good.clone() }, "contexts = 70000"),
        (Synthetic { tokens: 0, ..good.clone() }, "tokens = 0"),
    ] {
        let error = manifest(&bad).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("; hint: "), "{error}");
    }
}

#[test]
fn the_held_out_text_has_a_bounded_length() {
    for (tokens, expected) in [(100, 1 << 14), (1_000_000, 50_000), (1 << 30, 1 << 20)] {
        let source = Synthetic { tokens, ..source(64, 1.5, 500) };
        assert_eq!(manifest(&source).unwrap().validation_tokens, expected);
    }
}
