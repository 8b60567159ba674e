//! Text of a known entropy: the truth against which a sweep's irreducible loss is checked.
//!
//! Construction, with V symbols, K tables and the wanted entropy H:
//! 1. One distribution q over ranks 0..V, q(r) proportional to (r + 1)^-s. The exponent s is found
//!    by bisection so that -sum q ln q = H. (s = 0 gives ln V; H falls to 0 as s grows.)
//! 2. K tables, each an order of the V symbols. Table k says which symbol stands at rank r.
//! 3. A map from the two symbols before a place to a table.
//! 4. The next symbol is the one at rank r of that table, r drawn from q.
//!
//! Every conditional distribution is q with its symbols in another order, and the order is a
//! function of the past. So the entropy rate is H(q) exactly, in closed form, whatever the
//! frequencies of the contexts are, and no predictor's expected loss is below it.
//!
//! What makes the loss of small models fall like a power law towards H is that contexts are
//! unequal (Hutter 2021, 2102.04074; Michaud et al. 2023, 2303.13506: what is rarer is learnt
//! later, and a Zipf tail of contexts gives a power of the tokens or parameters spent):
//! - A table is drawn symbol by symbol with weights (v + 1)^-1 (Plackett 1975; Luce 1959), so low
//!   symbols tend to high ranks: single symbols and pairs of them are Zipf-like.
//! - Pairs take tables with probability proportional to (k + 1)^-1: tables are shared unequally.
//! - A model can gain by the frequencies of symbols, then by the last symbol, then by both.
//!
//! The tables and the text are drawn from the counter-based generator with `libm`, so they are the
//! same bits everywhere. The id is the hash of the parameters and [`FORMAT`]; a test holds the
//! drawn text to a golden hash, so a change of the construction cannot keep the id.

use std::path::Path;

use sweep_spec::{
    data::{DataManifest, Synthetic},
    hash::content_hash,
    id::DataId,
    random::{Purpose, Stream},
};

use crate::{dataset::Part, error::DataError, shard::ShardWriter};

/// Raised when the same parameters would give another text.
const FORMAT: &str = "sweep.data.synthetic/1";

/// Symbols are one byte.
const VOCABULARY: std::ops::RangeInclusive<u32> = 2..=256;

/// 65,536 tables of 256 symbols are 16 MiB; there are no more pairs than that.
const CONTEXTS_MAX: u32 = 1 << 16;

/// Held-out text is a twentieth of the training text within these bounds: below, its mean loss is
/// noise, above, evaluation costs more than it tells.
const VALIDATION_TOKENS: (u64, u64) = (1 << 14, 1 << 20);

/// Halvings of the interval of s: beyond the 53 bits of a double.
const BISECTIONS: u32 = 64;

/// Beyond this exponent all mass is on the first rank to the last bit of a double.
const EXPONENT_MAX: f64 = 64.0;

/// Tokens written at once.
const BATCH_TOKENS: u64 = 1 << 16;

/// The facts of the source, without drawing it.
pub(crate) fn manifest(source: &Synthetic) -> Result<DataManifest, DataError> {
    check(source)?;
    Ok(DataManifest {
        id: DataId::from_hash(&content_hash(FORMAT, source)),
        vocabulary: source.vocabulary,
        train_tokens: source.tokens,
        validation_tokens: validation_tokens(source),
        bytes_per_token: None,
        train_documents: 1,
        validation_documents: 1,
        entropy: Some(source.entropy),
        image: None,
    })
}

/// Draws both parts into shards.
pub(crate) fn build(folder: &Path, source: &Synthetic) -> Result<DataManifest, DataError> {
    let manifest = manifest(source)?;
    let process = Process::new(source);
    for (part, tokens, stream) in
        [(Part::Train, manifest.train_tokens, 0), (Part::Validation, manifest.validation_tokens, 1)]
    {
        let mut shard = ShardWriter::create(&folder.join(part.file()), source.vocabulary)?;
        let mut text = process.text(source.seed, stream);
        let mut left = tokens;
        while left > 0 {
            let count = left.min(BATCH_TOKENS);
            let batch: Vec<u32> = (0..count).map(|_| u32::from(text.next_symbol())).collect();
            shard.push(&batch)?;
            left -= count;
        }
        shard.finish()?;
    }
    Ok(manifest)
}

fn validation_tokens(source: &Synthetic) -> u64 {
    (source.tokens / 20).clamp(VALIDATION_TOKENS.0, VALIDATION_TOKENS.1)
}

fn check(source: &Synthetic) -> Result<(), DataError> {
    let refused = |key, value: String, reason: String, hint| {
        Err(DataError::Synthetic { key, value, reason, hint })
    };
    let largest = libm::log(f64::from(source.vocabulary));
    if !VOCABULARY.contains(&source.vocabulary) {
        let reason = "is not from 2 to 256".to_owned();
        return refused("vocabulary", source.vocabulary.to_string(), reason, "64 is a good start");
    }
    if !(source.entropy > 0.0 && source.entropy < largest) {
        let reason = format!("is not above 0 and below ln({}) = {largest:.4}", source.vocabulary);
        let hint = "give nats per token; half of the upper limit leaves room to learn";
        return refused("entropy", source.entropy.to_string(), reason, hint);
    }
    if !(1..=CONTEXTS_MAX).contains(&source.contexts) {
        let reason = format!("is not from 1 to {CONTEXTS_MAX}");
        return refused("contexts", source.contexts.to_string(), reason, "1000 is a good start");
    }
    if source.tokens == 0 {
        let hint = "give at least the tokens of the longest run, or it repeats them";
        return refused("tokens", "0".to_owned(), "is no text".to_owned(), hint);
    }
    Ok(())
}

/// The process: everything but the state of a text.
struct Process {
    vocabulary: usize,
    /// Sums of q up to and with each rank.
    cumulative: Vec<f64>,
    /// Symbols by table and rank.
    tables: Vec<u8>,
    /// Table by the two symbols before.
    table_of: Vec<u32>,
}

impl Process {
    fn new(source: &Synthetic) -> Self {
        let vocabulary = source.vocabulary as usize;
        let q = distribution(vocabulary, source.entropy);
        let mut tables = Vec::with_capacity(vocabulary * source.contexts as usize);
        for table in 0..source.contexts {
            let stream = u64::from(table) + 1;
            let mut draws = Stream::new(source.seed, Purpose::SyntheticTables, stream);
            tables.extend(order(vocabulary, &mut draws));
        }
        let shares = cumulative(&zipf(source.contexts as usize, 1.0));
        let mut draws = Stream::new(source.seed, Purpose::SyntheticTables, 0);
        let table_of = (0..vocabulary * vocabulary)
            .map(|_| u32::try_from(place(&shares, draws.uniform())).expect("at most CONTEXTS_MAX"))
            .collect();
        Self { vocabulary, cumulative: cumulative(&q), tables, table_of }
    }

    /// A text of its own for every stream.
    fn text(&self, seed: u64, stream: u64) -> Text<'_> {
        Text { process: self, draws: Stream::new(seed, Purpose::Synthetic, stream), before: [0, 0] }
    }

    /// The symbols in the order of their ranks after the two `before`.
    fn ranks(&self, before: [u8; 2]) -> &[u8] {
        let pair = usize::from(before[0]) * self.vocabulary + usize::from(before[1]);
        let start = self.table_of[pair] as usize * self.vocabulary;
        &self.tables[start..start + self.vocabulary]
    }
}

/// A text being drawn.
struct Text<'a> {
    process: &'a Process,
    draws: Stream,
    before: [u8; 2],
}

impl Text<'_> {
    fn next_symbol(&mut self) -> u8 {
        let rank = place(&self.process.cumulative, self.draws.uniform());
        let symbol = self.process.ranks(self.before)[rank];
        self.before = [self.before[1], symbol];
        symbol
    }
}

/// The weights (r + 1)^-s, normalised.
#[expect(clippy::cast_precision_loss, reason = "at most 65,536 ranks")]
fn zipf(count: usize, exponent: f64) -> Vec<f64> {
    let weights: Vec<f64> =
        (0..count).map(|rank| libm::pow(rank as f64 + 1.0, -exponent)).collect();
    let total: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / total).collect()
}

/// -sum q ln q in nats.
fn entropy_nats(q: &[f64]) -> f64 {
    -q.iter().filter(|&&p| p > 0.0).map(|&p| p * libm::log(p)).sum::<f64>()
}

/// The distribution over ranks with the wanted entropy.
fn distribution(vocabulary: usize, entropy: f64) -> Vec<f64> {
    let (mut low, mut high) = (0.0, EXPONENT_MAX);
    for _ in 0..BISECTIONS {
        let middle = 0.5 * (low + high);
        // The entropy falls as the exponent grows.
        if entropy_nats(&zipf(vocabulary, middle)) > entropy {
            low = middle;
        } else {
            high = middle;
        }
    }
    zipf(vocabulary, 0.5 * (low + high))
}

/// Sums up to and with each place; the last is 1 whatever the rounding.
fn cumulative(q: &[f64]) -> Vec<f64> {
    let mut sum = 0.0;
    let mut sums: Vec<f64> = q
        .iter()
        .map(|p| {
            sum += p;
            sum
        })
        .collect();
    if let Some(last) = sums.last_mut() {
        *last = 1.0;
    }
    sums
}

/// The first place whose sum is above a uniform draw.
fn place(cumulative: &[f64], uniform: f64) -> usize {
    cumulative.partition_point(|&sum| sum <= uniform)
}

/// An order of the symbols drawn without replacement with weights (v + 1)^-1: sorted by
/// exponential times, each at the rate of its weight.
fn order(vocabulary: usize, draws: &mut Stream) -> Vec<u8> {
    let mut times: Vec<(f64, u8)> = (0..=u8::MAX)
        .take(vocabulary)
        .map(|symbol| {
            let time = -libm::log(1.0 - draws.uniform()) * (f64::from(symbol) + 1.0);
            (time, symbol)
        })
        .collect();
    times.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    times.into_iter().map(|(_, symbol)| symbol).collect()
}

#[cfg(test)]
mod tests;
