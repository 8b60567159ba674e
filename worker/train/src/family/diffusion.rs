//! The diffusion model in training: images in, weighted mean squared error out.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use sweep_data::GlyphDensity;
use sweep_spec::{
    data::{DataSource, ImageFacts},
    metric::Metric,
    random::{Purpose, Stream},
    shape::DiffusionShape,
};

use super::threads;
use crate::{
    diffusion::{
        evaluation::{self, Images},
        frame::{Frame, level},
        predict::Predictor,
        quality,
        sampler::{self, Plan, normals},
        samples,
    },
    error::TrainError,
    model::{Model, diffusion::Dit, leaf},
    order::DataOrder,
    parts::{self, Gradients},
    training::TrainRequest,
};

/// A diffusion model with its data.
pub(crate) struct DiffusionTraining<'a> {
    request: &'a TrainRequest<'a>,
    device: Device,
    frame: Frame,
    /// The model.
    pub(super) model: Dit,
    order: DataOrder,
    /// The parts of a batch, as ranges of its images.
    parts: Vec<Range<usize>>,
    facts: ImageFacts,
    train: Images<'a>,
    held_out: Images<'a>,
    /// The density of the images, where it is known.
    density: Option<GlyphDensity>,
}

/// A batch in host memory.
struct Batch {
    states: Vec<f32>,
    /// What the model should give out, cut into patches.
    targets: Vec<f32>,
    steps: Vec<usize>,
    classes: Vec<i32>,
}

impl<'a> DiffusionTraining<'a> {
    pub(super) fn new(
        request: &'a TrainRequest<'a>,
        shape: &DiffusionShape,
        device: &Device,
    ) -> Result<Self, TrainError> {
        shape.check()?;
        let (run, dataset) = (request.run, request.dataset);
        let config = &run.config;
        let facts = image_facts(request, shape)?;
        let train = Images::new(dataset.train(), facts);
        // One unit of data more than there are images: the order is made for windows, which look
        // one token ahead.
        let order = DataOrder::new(config.seed, train.count() as u64 + 1, 1, config.batch)?;
        let patches = shape.patches() as usize;
        Ok(Self {
            request,
            device: device.clone(),
            frame: Frame::new(shape),
            model: Dit::new(shape, config.seed, device),
            order,
            parts: parts::parts(config.batch as usize, patches, request.device.is_cpu()),
            facts,
            train,
            held_out: Images::new(dataset.validation(), facts),
            density: match &run.source {
                DataSource::Glyphs(source) => Some(GlyphDensity::new(source)),
                _ => None,
            },
        })
    }

    /// Decay of the moving average of the weights.
    pub(super) fn average_decay(&self) -> f64 {
        self.frame.shape().process.ema_decay
    }

    pub(super) fn gradients(&mut self, step: u64) -> Result<Gradients, TrainError> {
        let batch = self.batch(step);
        let threads = threads(self.request.threads);
        Ok(parts::gradients(&self.model, &self.parts, threads, |model, images| {
            self.loss(model, &batch, images)
        }))
    }

    /// The images of a step with timesteps and noise, each a function of seed and step.
    fn batch(&mut self, step: u64) -> Batch {
        let seed = self.request.run.config.seed;
        let mut times = Stream::new(seed, Purpose::Timestep, step);
        let mut noises = Stream::new(seed, Purpose::Noise, step);
        let timesteps = self.frame.levels().timesteps() as u64;
        let mut batch = Batch { states: vec![], targets: vec![], steps: vec![], classes: vec![] };
        let mut targets = Vec::new();
        for image in self.order.images(step) {
            let (class, image) = self.train.read(image);
            let t = 1 + usize::try_from(times.below(timesteps)).expect("few timesteps");
            let noise = normals(&mut noises, image.len());
            self.frame.mix(&image, &noise, t, &mut batch.states);
            self.frame.target(&image, &noise, t, &mut targets);
            batch.steps.push(t);
            batch.classes.push(class);
        }
        batch.targets = self.frame.to_patches(&targets);
        batch
    }

    /// Weighted mean squared error of these images of a batch, in the graph of the model.
    #[expect(clippy::cast_possible_truncation, reason = "weights are f32")]
    fn loss(&self, model: &Dit, batch: &Batch, images: Range<usize>) -> Tensor<1> {
        let shape = self.frame.shape();
        let (patches, width) = (shape.patches() as usize, shape.patch_values() as usize);
        let length = self.frame.values();
        let values = images.start * length..images.end * length;
        let (steps, classes) = (&batch.steps[images.clone()], &batch.classes[images.clone()]);
        let inputs = self.frame.inputs(&batch.states[values.clone()], steps, classes, &self.device);
        let rows = images.len() * patches;
        let target = TensorData::new(batch.targets[values].to_vec(), [rows, width]);
        let target = Tensor::from_inner(Tensor::<2>::from_data(target, &self.device));
        let square = (model.predict(&inputs) - target).square();
        if shape.process.weighting == sweep_spec::diffusion::Weighting::Uniform {
            return square.mean();
        }
        let weights: Vec<f32> = steps
            .iter()
            .flat_map(|&t| std::iter::repeat_n(self.frame.weight(t) as f32, patches))
            .collect();
        let weights = TensorData::new(weights, [rows, 1]);
        (square * Tensor::from_inner(Tensor::<2>::from_data(weights, &self.device))).mean()
    }

    /// Loss on the fixed triples, and at the end the bound, samples and their measures.
    pub(super) fn evaluate(
        &self,
        average: Option<&[Tensor<2>]>,
        last: bool,
    ) -> Result<Vec<(Metric, f64)>, TrainError> {
        let mut model = self.model.clone();
        for (parameter, value) in model.parameters_mut().into_iter().zip(average.unwrap_or(&[])) {
            parameter.value = leaf(value.clone());
        }
        let threads = threads(self.request.threads);
        let predictor = Predictor::new(model, &self.frame, &self.device, threads);
        let evaluation = &self.request.run.evaluation;
        let count = usize::try_from(evaluation.tokens).unwrap_or(usize::MAX);
        let density = self.density.as_ref();
        let floor = density.filter(|_| last);
        let mut found = evaluation::loss(&predictor, self.held_out, count, floor)?;
        if last {
            found.extend(evaluation::bound(&predictor, self.held_out, density)?);
            found.extend(self.sample(&predictor)?);
        }
        Ok(found)
    }

    /// Draws samples, leaves some of them beside the checkpoints, and measures them.
    fn sample(&self, predictor: &Predictor<'_>) -> Result<Vec<(Metric, f64)>, TrainError> {
        let Some(sampling) = self.request.run.evaluation.sampling else { return Ok(Vec::new()) };
        let (count, steps) = (sampling.count as usize, sampling.steps as usize);
        let plan = Plan { sampler: sampling.sampler, steps, count };
        let drawn = sampler::draw(predictor, plan)?;
        let folder = self.request.checkpoints;
        samples::write(folder, &drawn, self.facts, sampling.sampler, steps)?;
        let images: Vec<Vec<u8>> = drawn
            .images
            .chunks_exact(self.frame.values())
            .map(|image| image.iter().map(|&value| level(value)).collect())
            .collect();
        let (near, far) = (self.held_out.levels(0, count), self.held_out.levels(count, count));
        Ok(quality::compare(&images, &near, &far, self.facts, self.density.as_ref()))
    }
}

/// The form of the images, where they are what the model is for.
fn image_facts(
    request: &TrainRequest<'_>,
    shape: &DiffusionShape,
) -> Result<ImageFacts, TrainError> {
    let (side, channels) = (shape.side, shape.channels);
    match request.dataset.manifest().image {
        Some(facts)
            if (facts.side, facts.channels) == (side, channels)
                && facts.classes >= shape.classes =>
        {
            Ok(facts)
        }
        found => {
            let found = found.map_or_else(
                || "no images".to_owned(),
                |facts| {
                    format!(
                        "images of {0} x {0} with {1} channel(s) and {2} classes",
                        facts.side, facts.channels, facts.classes
                    )
                },
            );
            Err(TrainError::Images { found, side, channels })
        }
    }
}
