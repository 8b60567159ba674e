//! The forward process of a diffusion model and what follows from it in closed form.
//!
//! An image x with values in [-1, 1] becomes x_t = sqrt(a_t) x + sqrt(1 - a_t) e with e ~ N(0, I),
//! for t in 1..=T; a_0 = 1 and a_t falls towards 0 (Ho et al. 2020, 2006.11239). A model sees x_t
//! and t and predicts the noise e, or the velocity v = sqrt(a_t) e - sqrt(1 - a_t) x (Salimans and
//! Ho 2022, 2202.00512). Either gives the other, so losses are compared as errors of the noise.
//!
//! Pure functions in f64; nothing here draws a number.

use serde::{Deserialize, Serialize};

/// How the share of signal a_t falls with t.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseSchedule {
    /// The variance of a step rises linearly from 0.1 / T to 20 / T (Ho et al. 2020, given there
    /// for T = 1000).
    Linear,
    /// a_t follows a squared cosine (Nichol and Dhariwal 2021, 2102.09672, equation 17); it keeps
    /// signal for longer, which suits small images.
    #[default]
    Cosine,
}

/// What the model gives out.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Prediction {
    /// The noise e.
    #[default]
    Noise,
    /// The velocity v.
    Velocity,
}

/// How the squared errors of the timesteps are weighted in training; evaluation never weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Weighting {
    /// All alike.
    #[default]
    Uniform,
    /// min(SNR, gamma) / SNR of the noise error, and min(SNR, gamma) / (SNR + 1) of the velocity
    /// error (Hang et al. 2023, 2303.09556), with SNR = a_t / (1 - a_t).
    MinSnr(f64),
}

/// The process of a run; part of its identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// How signal falls.
    pub noise: NoiseSchedule,
    /// Number of timesteps T.
    pub timesteps: u32,
    /// What the model gives out.
    pub prediction: Prediction,
    /// Weights in training.
    pub weighting: Weighting,
    /// Decay of the moving average of the weights, which is what is evaluated and sampled from.
    pub ema_decay: f64,
}

/// Largest variance of one step: the cosine schedule would end at 1.
const BETA_MAX: f64 = 0.999;

/// Offset of the cosine schedule, so that the first steps are not too small.
const COSINE_OFFSET: f64 = 0.008;

/// The numbers of a process at every timestep.
#[derive(Clone, Debug, PartialEq)]
pub struct Levels {
    /// a_t for t = 0..=T.
    signal: Vec<f64>,
}

impl Levels {
    /// The levels of a schedule.
    ///
    /// # Panics
    /// When there is no timestep.
    #[must_use]
    pub fn new(schedule: NoiseSchedule, timesteps: u32) -> Self {
        assert!(timesteps > 0, "a process has timesteps");
        let count = f64::from(timesteps);
        let cosine = |t: f64| {
            let angle = (t / count + COSINE_OFFSET) / (1.0 + COSINE_OFFSET);
            libm::pow(libm::cos(angle * std::f64::consts::FRAC_PI_2), 2.0)
        };
        let beta = |t: u32| {
            let t = f64::from(t);
            let beta = match schedule {
                NoiseSchedule::Linear => {
                    let share = if timesteps == 1 { 0.0 } else { (t - 1.0) / (count - 1.0) };
                    (0.1 + share * 19.9) / count
                }
                NoiseSchedule::Cosine => 1.0 - cosine(t) / cosine(t - 1.0),
            };
            beta.clamp(0.0, BETA_MAX)
        };
        let mut signal = Vec::with_capacity(timesteps as usize + 1);
        signal.push(1.0);
        let mut product = 1.0;
        for t in 1..=timesteps {
            product *= 1.0 - beta(t);
            signal.push(product);
        }
        Self { signal }
    }

    /// T.
    #[must_use]
    pub fn timesteps(&self) -> usize {
        self.signal.len() - 1
    }

    /// The share of signal a_t.
    ///
    /// # Panics
    /// When `t` is above T.
    #[must_use]
    pub fn signal(&self, t: usize) -> f64 {
        self.signal[t]
    }

    /// (sqrt(a_t), sqrt(1 - a_t)): what image and noise are multiplied by.
    #[must_use]
    pub fn scales(&self, t: usize) -> (f64, f64) {
        (libm::sqrt(self.signal[t]), libm::sqrt(1.0 - self.signal[t]))
    }

    /// a_t / (1 - a_t).
    #[must_use]
    pub fn snr(&self, t: usize) -> f64 {
        self.signal[t] / (1.0 - self.signal[t])
    }

    /// The weight of timestep t in training, for errors of what is predicted.
    #[must_use]
    pub fn weight(&self, t: usize, prediction: Prediction, weighting: Weighting) -> f64 {
        let Weighting::MinSnr(gamma) = weighting else { return 1.0 };
        let snr = self.snr(t);
        match prediction {
            Prediction::Noise => snr.min(gamma) / snr,
            Prediction::Velocity => snr.min(gamma) / (snr + 1.0),
        }
    }

    /// Mean and deviation of q(x_s | x_t, x) for s < t: the mean is the first number times x plus
    /// the second times x_t (Ho et al. 2020, equations 6 and 7, for any pair of timesteps).
    ///
    /// # Panics
    /// When `s` is not below `t`.
    #[must_use]
    pub fn posterior(&self, s: usize, t: usize) -> (f64, f64, f64) {
        assert!(s < t, "the posterior of {s} given {t}");
        let (a_s, a_t) = (self.signal[s], self.signal[t]);
        let step = a_t / a_s;
        let of_image = libm::sqrt(a_s) * (1.0 - step) / (1.0 - a_t);
        let of_state = libm::sqrt(step) * (1.0 - a_s) / (1.0 - a_t);
        let variance = (1.0 - step) * (1.0 - a_s) / (1.0 - a_t);
        (of_image, of_state, libm::sqrt(variance))
    }

    /// KL divergence in nats that one unit of squared noise error costs at timestep t >= 2, where
    /// the model's step has the variance of the posterior: (SNR_{t-1} - SNR_t) / (2 SNR_t)
    /// (Kingma et al. 2021, 2107.00630, equation 13, in terms of the noise).
    ///
    /// # Panics
    /// When `t` is below 2.
    #[must_use]
    pub fn bound_weight(&self, t: usize) -> f64 {
        assert!(t >= 2, "the last step is no KL divergence");
        0.5 * (self.snr(t - 1) / self.snr(t) - 1.0)
    }

    /// KL divergence in nats of q(x_T | x) from the standard normal for one value x.
    #[must_use]
    pub fn prior_nats(&self, x: f64) -> f64 {
        let signal = self.signal[self.timesteps()];
        let variance = 1.0 - signal;
        0.5 * (variance + signal * x * x - 1.0 - libm::log(variance))
    }
}

/// ln of the normal mass of a whole level of 256 around a mean, in levels; the outermost levels
/// take the tails.
#[must_use]
pub fn level_nats(level: u8, mean: f64, deviation: f64) -> f64 {
    let z = |edge: f64| (edge - mean) / deviation;
    let low = if level == 0 { f64::NEG_INFINITY } else { z(f64::from(level) - 0.5) };
    let high = if level == u8::MAX { f64::INFINITY } else { z(f64::from(level) + 0.5) };
    // On the side of the smaller tail, where no digits cancel.
    let (low, high) = if low + high > 0.0 { (-high, -low) } else { (low, high) };
    let root = std::f64::consts::SQRT_2;
    let mass = 0.5 * (libm::erfc(-high / root) - libm::erfc(-low / root));
    // Beyond 37 deviations the mass has no double; the density stands for it there.
    if mass > 1e-300 {
        libm::log(mass)
    } else {
        let norm = libm::log(deviation * libm::sqrt(2.0 * std::f64::consts::PI));
        -0.5 * z(f64::from(level)).powi(2) - norm
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signal_falls_from_one_to_almost_nothing() {
        for schedule in [NoiseSchedule::Linear, NoiseSchedule::Cosine] {
            for timesteps in [50, 1000] {
                let levels = Levels::new(schedule, timesteps);
                assert_eq!(levels.signal(0), 1.0);
                assert!((1..=levels.timesteps()).all(|t| levels.signal(t) < levels.signal(t - 1)));
                let last = levels.signal(levels.timesteps());
                assert!(last > 0.0 && last < 1e-4, "{schedule:?} {timesteps}: {last}");
            }
        }
    }

    /// The published ends: beta_1 = 1e-4, beta_1000 = 0.02; and the cosine at half time.
    #[test]
    fn schedules_have_the_published_values() {
        let linear = Levels::new(NoiseSchedule::Linear, 1000);
        assert!((1.0 - linear.signal(1) - 1e-4).abs() < 1e-15);
        assert!((1.0 - linear.signal(1000) / linear.signal(999) - 0.02).abs() < 1e-12);
        let cosine = Levels::new(NoiseSchedule::Cosine, 1000);
        let start = libm::cos(0.008 / 1.008 * std::f64::consts::FRAC_PI_2);
        let middle = libm::cos(0.508 / 1.008 * std::f64::consts::FRAC_PI_2);
        assert!((cosine.signal(500) - (middle / start).powi(2)).abs() < 1e-12);
    }

    /// Bayes' rule on one value: q(x_s | x_t, x) is the product of two Gaussians.
    #[test]
    fn the_posterior_is_bayes_rule() {
        let levels = Levels::new(NoiseSchedule::Cosine, 100);
        for (s, t) in [(0, 1), (3, 4), (10, 60), (98, 99)] {
            let (a_s, a_t) = (levels.signal(s), levels.signal(t));
            let (x, x_t) = (0.3, -0.7);
            let step = a_t / a_s;
            let (prior, noise) = (1.0 - a_s, 1.0 - step);
            let (mean, variance) = if prior == 0.0 {
                (x, 0.0)
            } else {
                let precision = 1.0 / prior + step / noise;
                let sum = a_s.sqrt() * x / prior + step.sqrt() * x_t / noise;
                (sum / precision, 1.0 / precision)
            };
            let (of_image, of_state, deviation) = levels.posterior(s, t);
            assert!((of_image * x + of_state * x_t - mean).abs() < 1e-12, "{s} {t}");
            assert!((deviation * deviation - variance).abs() < 1e-12, "{s} {t}");
        }
    }

    /// The KL of two Gaussians of one variance is the squared distance of their means over twice
    /// the variance; a noise error d moves the image estimate by d sqrt(1 - a_t) / sqrt(a_t).
    #[test]
    fn the_weight_of_the_bound_is_the_divergence_of_the_posteriors() {
        let levels = Levels::new(NoiseSchedule::Linear, 200);
        for t in [2, 50, 200] {
            let (of_image, _, deviation) = levels.posterior(t - 1, t);
            let (signal, noise) = levels.scales(t);
            let moved = of_image * noise / signal;
            let expected = 0.5 * (moved / deviation).powi(2);
            assert!((levels.bound_weight(t) / expected - 1.0).abs() < 1e-9, "{t}");
        }
    }

    #[test]
    fn min_snr_bounds_the_weight_of_easy_steps_only() {
        let levels = Levels::new(NoiseSchedule::Cosine, 1000);
        let weight = |t| levels.weight(t, Prediction::Noise, Weighting::MinSnr(5.0));
        assert_eq!(weight(900), 1.0);
        assert!((weight(10) - 5.0 / levels.snr(10)).abs() < 1e-12);
        let velocity = levels.weight(10, Prediction::Velocity, Weighting::MinSnr(5.0));
        assert!((velocity - 5.0 / (levels.snr(10) + 1.0)).abs() < 1e-12);
        assert_eq!(levels.weight(10, Prediction::Noise, Weighting::Uniform), 1.0);
    }

    #[test]
    fn the_prior_costs_next_to_nothing() {
        let levels = Levels::new(NoiseSchedule::Cosine, 1000);
        assert!((0.0..1e-6).contains(&levels.prior_nats(1.0)));
    }
}
