//! AdamW with global-norm clipping, in the one pass over (parameter, gradient, moments) that a
//! small model on a CPU needs; on other backends the same in Burn's operations.
//!
//! With g the gradient times min(1, clip / norm) and t the step from 1:
//! m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2,
//! p -= rate (m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon) + decay p)
//! (Loshchilov and Hutter 2019, 1711.05101, with the decay scaled by the rate).
//!
//! Learning rates by width follow muP for Adam (Yang et al. 2022, 2203.03466, table 8): a matrix
//! of a model of width d has `learning_rate * base_width / d`; tables and gains `learning_rate`.

use burn::tensor::Tensor;
use sweep_spec::training::Optimizer;

use crate::{
    model::{Parameter, Role, leaf},
    ops::{
        Operand,
        simd::{self, dispatch},
        values, values_mut,
    },
};

/// First and second moment of one parameter.
#[derive(Debug)]
pub(crate) struct Moments {
    /// Running mean of the gradient.
    pub(crate) first: Tensor<2>,
    /// Running mean of its square.
    pub(crate) second: Tensor<2>,
}

/// The optimiser's state, in the order of the model's parameters.
#[derive(Debug)]
pub(crate) struct AdamW {
    config: Optimizer,
    pub(crate) moments: Vec<Moments>,
    pub(crate) average: Option<Average>,
}

/// The moving average of the weights: after step t (from 0) a <- k a + (1 - k) p with
/// k = min(decay, (1 + t) / (10 + t)), so that the first weights are soon forgotten.
#[derive(Debug)]
pub(crate) struct Average {
    decay: f64,
    /// In the order of the model's parameters.
    pub(crate) values: Vec<Tensor<2>>,
}

impl Average {
    #[expect(clippy::cast_precision_loss, reason = "step counts are below 2^53")]
    #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
    fn update(&mut self, parameters: &[&mut Parameter], step: u64) {
        let early = (1.0 + step as f64) / (10.0 + step as f64);
        let keep = self.decay.min(early) as f32;
        for (value, parameter) in self.values.iter_mut().zip(parameters) {
            *value = value.clone() * keep + parameter.plain() * (1.0 - keep);
        }
    }
}

/// The numbers of one update of one parameter.
#[derive(Clone, Copy)]
struct Update {
    rate: f32,
    decay: f32,
    beta1: f32,
    beta2: f32,
    /// 1 / (1 - beta^t) of each moment.
    correction1: f32,
    correction2: f32,
    epsilon: f32,
}

impl AdamW {
    /// Zero moments for these parameters.
    pub(crate) fn new(config: &Optimizer, parameters: &[&mut Parameter]) -> Self {
        let moments = parameters
            .iter()
            .map(|parameter| {
                let first = parameter.plain().zeros_like();
                Moments { second: first.clone().zeros_like(), first }
            })
            .collect();
        Self { config: config.clone(), moments, average: None }
    }

    /// The same with a moving average of the weights.
    pub(crate) fn averaging(mut self, decay: f64, parameters: &[&mut Parameter]) -> Self {
        let values = parameters.iter().map(|parameter| parameter.plain()).collect();
        self.average = Some(Average { decay, values });
        self
    }

    /// One step, `step` from 0, at the schedule's `factor`, with the gradients in the order of the
    /// parameters; gives the gradient norm before clipping, a tensor of one element.
    pub(crate) fn step(
        &mut self,
        mut parameters: Vec<&mut Parameter>,
        gradients: Vec<Tensor<2>>,
        step: u64,
        factor: f64,
    ) -> Tensor<1> {
        let (norm, scale) = self.norm(&gradients);
        for ((parameter, moments), gradient) in
            parameters.iter_mut().zip(&mut self.moments).zip(gradients)
        {
            let update = update(&self.config, parameter.role, step, factor);
            apply(parameter, moments, gradient, &scale, update);
        }
        if let Some(average) = &mut self.average {
            average.update(&parameters, step);
        }
        norm
    }

    /// The global norm, and what gradients are multiplied by.
    #[expect(clippy::cast_possible_truncation, reason = "norms are f32")]
    fn norm(&self, gradients: &[Tensor<2>]) -> (Tensor<1>, Scale) {
        let squares: Option<f64> = gradients.iter().map(plain_square).sum();
        if let Some(squares) = squares {
            let norm = squares.sqrt();
            let device = gradients[0].device();
            let scale = (self.config.clip_norm / norm).min(1.0);
            // A norm that is not finite leaves the gradient as it is: the run has diverged, and
            // the loss will say so.
            let scale = if norm.is_finite() { scale as f32 } else { 1.0 };
            return (Tensor::from_floats([norm as f32], &device), Scale::Host(scale));
        }
        let squares = gradients.iter().map(|gradient| gradient.clone().square().sum());
        let total = squares.reduce(|sum, square| sum + square).expect("a model has parameters");
        let norm = total.sqrt();
        let scale = norm.clone().clamp_min(self.config.clip_norm).recip() * self.config.clip_norm;
        (norm, Scale::Device(Box::new(scale)))
    }
}

/// What gradients are multiplied by to be clipped.
enum Scale {
    /// Known on the host.
    Host(f32),
    /// A tensor of one element, so that nothing waits for the device.
    Device(Box<Tensor<1>>),
}

/// Sum of squares in f64, where the tensor is in host memory.
fn plain_square(gradient: &Tensor<2>) -> Option<f64> {
    match gradient.clone().into() {
        Operand::Plain(gradient) => {
            let gradient = gradient.to_contiguous();
            let rows = values(&gradient).chunks(4096);
            Some(
                rows.map(|row| {
                    f64::from(dispatch(
                        #[inline(always)]
                        || simd::dot(row, row),
                    ))
                })
                .sum(),
            )
        }
        Operand::Tracked(_) | Operand::Other(_) => None,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the update is f32")]
#[expect(clippy::cast_precision_loss, reason = "step counts are below 2^53")]
fn update(config: &Optimizer, role: Role, step: u64, factor: f64) -> Update {
    let (width_factor, decay) = match role {
        Role::Matrix { width } => {
            (f64::from(config.base_width) / f64::from(width), config.weight_decay)
        }
        Role::Embedding | Role::Gain => (1.0, 0.0),
    };
    let correction = |beta: f64| 1.0 / (1.0 - libm::pow(beta, (step + 1) as f64));
    let rate = config.learning_rate * width_factor * factor;
    Update {
        rate: rate as f32,
        decay: (rate * decay) as f32,
        beta1: config.beta1 as f32,
        beta2: config.beta2 as f32,
        correction1: correction(config.beta1) as f32,
        correction2: correction(config.beta2) as f32,
        epsilon: config.epsilon as f32,
    }
}

fn apply(
    parameter: &mut Parameter,
    moments: &mut Moments,
    gradient: Tensor<2>,
    scale: &Scale,
    update: Update,
) {
    // The leaf is taken apart, so that its storage has no other holder and is written in place.
    let empty = Tensor::empty([1, 1], &gradient.device());
    let value = std::mem::replace(&mut parameter.value, empty.clone()).inner();
    let first = std::mem::replace(&mut moments.first, empty.clone());
    let second = std::mem::replace(&mut moments.second, empty);
    let (value, first, second) =
        match (value.into(), first.into(), second.into(), gradient.into(), scale) {
            (
                Operand::Plain(mut value),
                Operand::Plain(mut first),
                Operand::Plain(mut second),
                Operand::Plain(gradient),
                Scale::Host(scale),
            ) => {
                let gradient = gradient.to_contiguous();
                dispatch(
                    #[inline(always)]
                    || {
                        fused(
                            values_mut(&mut value),
                            values_mut(&mut first),
                            values_mut(&mut second),
                            values(&gradient),
                            *scale,
                            update,
                        );
                    },
                );
                use burn::backend::Flex;
                (
                    Tensor::from_primitive::<Flex>(value),
                    Tensor::from_primitive::<Flex>(first),
                    Tensor::from_primitive::<Flex>(second),
                )
            }
            (
                Operand::Other(value),
                Operand::Other(first),
                Operand::Other(second),
                Operand::Other(gradient),
                Scale::Device(scale),
            ) => composed(value, first, second, gradient * scale.clone().unsqueeze(), update),
            _ => panic!("parameters, moments and gradients live on one device"),
        };
    (parameter.value, moments.first, moments.second) = (leaf(value), first, second);
}

#[inline(always)]
fn fused(
    value: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    gradient: &[f32],
    scale: f32,
    u: Update,
) {
    let moments = first.iter_mut().zip(second);
    for ((p, (m, v)), &g) in value.iter_mut().zip(moments).zip(gradient) {
        let g = g * scale;
        *m = u.beta1.mul_add(*m, (1.0 - u.beta1) * g);
        *v = u.beta2.mul_add(*v, (1.0 - u.beta2) * g * g);
        let denominator = (*v * u.correction2).sqrt() + u.epsilon;
        *p -= u.decay.mul_add(*p, u.rate * u.correction1 * *m / denominator);
    }
}

fn composed(
    value: Tensor<2>,
    first: Tensor<2>,
    second: Tensor<2>,
    g: Tensor<2>,
    u: Update,
) -> (Tensor<2>, Tensor<2>, Tensor<2>) {
    let first = first * u.beta1 + g.clone() * (1.0 - u.beta1);
    let second = second * u.beta2 + g.square() * (1.0 - u.beta2);
    let denominator = (second.clone() * u.correction2).sqrt() + u.epsilon;
    let change = first.clone() * (u.rate * u.correction1) / denominator + value.clone() * u.decay;
    (value - change, first, second)
}
