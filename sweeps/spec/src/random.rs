//! Counter-based random numbers: Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as
//! easy as 1, 2, 3"), keyed by (seed, purpose), counted by (stream, position).
//!
//! A draw is a function of its key and its place alone. So initial weights, data order and
//! evaluation sets are equal on every backend, and a resumed run needs no generator state.
//! Logarithms and cosines come from `libm`, so the bits do not depend on the platform.

/// What a stream of random numbers is for; one key word, so that streams never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// Initial weights; the stream is the parameter's place in the model.
    Weights = 1,
    /// Order of the training windows; the stream is the epoch.
    DataOrder = 2,
    /// Choice of the evaluation windows.
    Evaluation = 3,
    /// Text of the synthetic source.
    Synthetic = 4,
    /// Tables of the synthetic source.
    SyntheticTables = 5,
    /// Resampling in fits and tests.
    Resampling = 6,
    /// Timesteps of a diffusion model; the stream is the step.
    Timestep = 7,
    /// Noise of a diffusion model; the stream is the step.
    Noise = 8,
    /// Sampling from a trained model.
    Sampling = 9,
    /// Items of an evaluation task.
    Task = 10,
    /// Which training windows are made of tasks, and what stands in them; the stream is the
    /// sample.
    TaskMixture = 11,
}

/// A generator for one (seed, purpose, stream). Cheap to make; draws are indexed by an internal
/// position that [`Stream::seek`] sets.
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u32; 2],
    stream: u64,
    block: u64,
    buffer: [u32; 4],
    used: usize,
}

impl Stream {
    /// The stream number `stream` of `purpose` under `seed`, at position 0.
    #[must_use]
    pub fn new(seed: u64, purpose: Purpose, stream: u64) -> Self {
        // The purpose is mixed into the high key word; seeds differ in both words.
        let mixed = splitmix(seed ^ (u64::from(purpose as u32) << 56));
        Self { key: [low(mixed), high(mixed)], stream, block: 0, buffer: [0; 4], used: 4 }
    }

    /// Goes to the draw with this index, counted in 32-bit words.
    pub fn seek(&mut self, word: u64) {
        self.block = word / 4;
        self.refill();
        self.used = usize::try_from(word % 4).expect("below 4");
    }

    /// 32 uniform bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            self.refill();
        }
        let word = self.buffer[self.used];
        self.used += 1;
        word
    }

    /// 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        let low = u64::from(self.next_u32());
        low | u64::from(self.next_u32()) << 32
    }

    /// Uniform in [0, 1) with 53 bits.
    pub fn uniform(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
        let mantissa = (self.next_u64() >> 11) as f64;
        mantissa * f64::EPSILON / 2.0
    }

    /// Uniform in 0..bound, by rejection, without bias.
    ///
    /// # Panics
    /// When `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "a draw below 0 has no value");
        let zone = u64::MAX - u64::MAX % bound;
        loop {
            let draw = self.next_u64();
            if draw < zone {
                return draw % bound;
            }
        }
    }

    /// A standard normal draw (Box and Muller 1958; the cosine half only, so that one draw takes
    /// a fixed number of words).
    pub fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.uniform()));
        radius * libm::cos(2.0 * std::f64::consts::PI * self.uniform())
    }

    fn refill(&mut self) {
        self.buffer = philox(
            [low(self.block), high(self.block), low(self.stream), high(self.stream)],
            self.key,
        );
        self.block += 1;
        self.used = 0;
    }
}

/// A pseudo-random permutation of 0..len, computed element by element: a four-round Feistel
/// network over the next power of four with cycle walking, keyed by Philox.
#[derive(Clone, Debug)]
pub struct Permutation {
    len: u64,
    half_bits: u32,
    keys: [u64; 4],
}

impl Permutation {
    /// The permutation number `stream` of `purpose` under `seed`.
    ///
    /// # Panics
    /// When `len` is 0.
    #[must_use]
    pub fn new(seed: u64, purpose: Purpose, stream: u64, len: u64) -> Self {
        assert!(len > 0, "nothing to permute");
        let mut draws = Stream::new(seed, purpose, stream);
        let bits = u64::BITS - (len - 1).leading_zeros();
        let half_bits = bits.div_ceil(2).max(1);
        Self { len, half_bits, keys: std::array::from_fn(|_| draws.next_u64()) }
    }

    /// Where `index` goes. Expected rounds of cycle walking are below 4.
    ///
    /// # Panics
    /// When `index` is not below the length.
    #[must_use]
    pub fn at(&self, index: u64) -> u64 {
        assert!(index < self.len, "{index} is outside a permutation of {}", self.len);
        let mut value = index;
        loop {
            value = self.round_trip(value);
            if value < self.len {
                return value;
            }
        }
    }

    fn round_trip(&self, value: u64) -> u64 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (splitmix(right ^ key) & mask));
        }
        left << self.half_bits | right
    }
}

/// Philox 4x32 with ten rounds.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(counter[0]) * 0xD251_1F53;
        let b = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [high(b) ^ counter[1] ^ key[0], low(b), high(a) ^ counter[3] ^ key[1], low(a)];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

/// The finaliser of SplitMix64 (Steele et al. 2014): a bijection that mixes all bits.
fn splitmix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is wanted")]
const fn low(value: u64) -> u32 {
    value as u32
}

const fn high(value: u64) -> u32 {
    low(value >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers of the authors' reference (Random123, kat_vectors).
    #[test]
    fn philox_gives_the_published_vectors() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
    }

    #[test]
    fn seeking_equals_drawing() {
        let mut drawn = Stream::new(7, Purpose::Weights, 3);
        let words: Vec<u32> = (0..11).map(|_| drawn.next_u32()).collect();
        for (index, &word) in words.iter().enumerate() {
            let mut sought = Stream::new(7, Purpose::Weights, 3);
            sought.seek(index as u64);
            assert_eq!(sought.next_u32(), word, "word {index}");
        }
    }

    #[test]
    fn purposes_and_seeds_have_streams_of_their_own() {
        let first = |seed, purpose| Stream::new(seed, purpose, 0).next_u64();
        assert_ne!(first(1, Purpose::Weights), first(2, Purpose::Weights));
        assert_ne!(first(1, Purpose::Weights), first(1, Purpose::DataOrder));
    }

    #[test]
    fn normals_have_mean_0_and_variance_1() {
        let mut stream = Stream::new(1, Purpose::Noise, 0);
        let draws: Vec<f64> = (0..40_000).map(|_| stream.normal()).collect();
        let mean = draws.iter().sum::<f64>() / 40_000.0;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 40_000.0;
        // Five standard errors of each at 40,000 draws.
        assert!(mean.abs() < 0.025, "{mean}");
        assert!((variance - 1.0).abs() < 0.036, "{variance}");
    }

    #[test]
    fn a_permutation_takes_every_place_once() {
        for len in [1, 2, 3, 7, 64, 1000, 4097] {
            let permutation = Permutation::new(5, Purpose::DataOrder, 0, len);
            let mut seen: Vec<u64> = (0..len).map(|index| permutation.at(index)).collect();
            seen.sort_unstable();
            assert!(seen.into_iter().eq(0..len), "length {len}");
        }
    }
}
