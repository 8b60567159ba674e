//! Checkpoints: a folder per step with the weights, the optimiser's moments, the weights' moving
//! average beside them where there is one, and a manifest of
//! hashes; written beside, synced, then renamed, so that one is whole or does not exist.
//!
//! A checkpoint is verified before it is loaded; one that fails is passed over for the one before
//! it, and said so. The random state is the run's seed and the step, so nothing else is needed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use sweep_spec::{
    checkpoint::{MANIFEST_FILE, Manifest, folder_name, step_of},
    run::RunConfig,
};

use crate::{
    error::TrainError,
    model::{Model, Parameter, leaf},
    optim::{AdamW, Moments},
};

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";

/// The run's configuration, beside its checkpoints: they can be read without a coordinator.
pub const CONFIG_FILE: &str = "run.json";

/// Checkpoints kept beside the newest: one to fall back on.
const KEPT: usize = 2;

/// A checkpoint that was found and verified.
pub(crate) struct Found {
    pub(crate) manifest: Manifest,
    model: Vec<u8>,
    optimizer: Vec<u8>,
}

/// Writes a checkpoint of `parameters` and `optimizer` into `folder`; gives its path and the hash
/// of its manifest. Older ones beyond the kept number are removed, but for those of the steps in
/// `forks`.
pub(crate) fn write(
    folder: &Path,
    mut manifest: Manifest,
    parameters: &[&mut Parameter],
    optimizer: &AdamW,
    forks: &[u64],
) -> Result<(PathBuf, String), TrainError> {
    let named = |error: io::Error| TrainError::Write { path: folder.to_owned(), source: error };
    let weights = parameters.iter().map(|p| (p.name.clone(), p.plain()));
    let moments = parameters.iter().zip(&optimizer.moments).flat_map(|(p, moments)| {
        [
            (format!("{}.first", p.name), moments.first.clone()),
            (format!("{}.second", p.name), moments.second.clone()),
        ]
    });
    let average = optimizer.average.iter().flat_map(|average| &average.values);
    let average =
        parameters.iter().zip(average).map(|(p, value)| (averaged(&p.name), value.clone()));
    let files = [(MODEL, pack(weights)?), (OPTIMIZER, pack(moments.chain(average))?)];
    for (name, bytes) in &files {
        manifest.files.insert((*name).to_owned(), blake3::hash(bytes).to_hex().to_string());
    }
    let target = folder.join(folder_name(manifest.step));
    let text = manifest.sealed();
    store(folder, &target, &files, &text).map_err(named)?;
    prune(folder, forks).map_err(named)?;
    Ok((target, blake3::hash(&text).to_hex().to_string()))
}

/// Writes the configuration of a run beside its checkpoints, whole or not at all.
pub(crate) fn write_config(folder: &Path, config: &RunConfig) -> Result<(), TrainError> {
    let write = || -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let scratch = folder.join(format!(".{CONFIG_FILE}-{}", std::process::id()));
        fs::write(&scratch, config.canonical_json())?;
        fs::rename(scratch, folder.join(CONFIG_FILE))
    };
    write().map_err(|source| TrainError::Write { path: folder.to_owned(), source })
}

/// The name of a parameter's moving average.
fn averaged(name: &str) -> String {
    format!("{name}.average")
}

fn store(
    folder: &Path,
    target: &Path,
    files: &[(&str, Vec<u8>)],
    manifest: &[u8],
) -> io::Result<()> {
    let scratch = folder.join(format!(".scratch-{}", std::process::id()));
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch)?;
    let files = files.iter().map(|(name, bytes)| (*name, bytes.as_slice()));
    for (name, bytes) in files.chain([(MANIFEST_FILE, manifest)]) {
        let file = fs::File::create(scratch.join(name))?;
        io::Write::write_all(&mut &file, bytes)?;
        file.sync_all()?;
    }
    sync_folder(&scratch)?;
    if target.exists() {
        // The same step again, after a resume from an earlier one.
        fs::remove_dir_all(target)?;
    }
    fs::rename(&scratch, target)?;
    sync_folder(folder)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

/// Checkpoint folders, newest first.
fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_step = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| step_of(name).is_some())
    };
    let mut found: Vec<PathBuf> = entries.filter(is_step).collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found
}

fn prune(folder: &Path, forks: &[u64]) -> io::Result<()> {
    let kept: Vec<PathBuf> = forks.iter().map(|&step| folder.join(folder_name(step))).collect();
    let mut old = list(folder).into_iter().skip(KEPT).filter(|path| !kept.contains(path));
    old.try_for_each(fs::remove_dir_all)
}

/// The newest whole checkpoint of a run at or before a step, and a line for each newer one that
/// was passed over.
pub(crate) fn newest(folder: &Path, run: &str, until: u64) -> (Option<Found>, Vec<String>) {
    let mut passed_over = Vec::new();
    let last = folder.join(folder_name(until));
    for path in list(folder).into_iter().filter(|path| until == u64::MAX || *path <= last) {
        match verify(&path, run) {
            Ok(found) => return (Some(found), passed_over),
            Err(reason) => passed_over.push(format!("{}: {reason}", path.display())),
        }
    }
    (None, passed_over)
}

fn verify(path: &Path, run: &str) -> Result<Found, String> {
    let read = |name: &str| fs::read(path.join(name)).map_err(|error| format!("{name}: {error}"));
    let manifest = Manifest::parse(&read(MANIFEST_FILE)?)
        .map_err(|error| format!("{MANIFEST_FILE}: {error}"))?;
    if manifest.run != run {
        return Err(format!("belongs to run {}", manifest.run));
    }
    let checked = |name: &str| -> Result<Vec<u8>, String> {
        let bytes = read(name)?;
        let expected = manifest.files.get(name).ok_or_else(|| format!("{name} is not listed"))?;
        let hash = blake3::hash(&bytes).to_hex().to_string();
        if hash == *expected { Ok(bytes) } else { Err(format!("{name} does not match its hash")) }
    };
    let (model, optimizer) = (checked(MODEL)?, checked(OPTIMIZER)?);
    Ok(Found { manifest, model, optimizer })
}

impl Found {
    /// Puts the weights alone into a model of the same shape.
    pub(crate) fn load_model(
        &self,
        model: &mut impl Model,
        device: &Device,
    ) -> Result<(), TrainError> {
        let weights = unpack(&self.model)?;
        for parameter in model.parameters_mut() {
            let shape = parameter.value.dims();
            parameter.value = leaf(tensor(&weights, &parameter.name, shape, device)?);
        }
        Ok(())
    }

    /// Puts the tensors into a model and an optimiser of the same shape, on `device` (without
    /// autodiff).
    pub(crate) fn load(
        &self,
        parameters: Vec<&mut Parameter>,
        optimizer: &mut AdamW,
        device: &Device,
    ) -> Result<(), TrainError> {
        let model = unpack(&self.model)?;
        let moments = unpack(&self.optimizer)?;
        if let Some(average) = &mut optimizer.average {
            for (parameter, value) in parameters.iter().zip(&mut average.values) {
                let shape = parameter.value.dims();
                *value = tensor(&moments, &averaged(&parameter.name), shape, device)?;
            }
        }
        for (parameter, slot) in parameters.into_iter().zip(&mut optimizer.moments) {
            let shape = parameter.value.dims();
            parameter.value = leaf(tensor(&model, &parameter.name, shape, device)?);
            *slot = Moments {
                first: tensor(&moments, &format!("{}.first", parameter.name), shape, device)?,
                second: tensor(&moments, &format!("{}.second", parameter.name), shape, device)?,
            };
        }
        Ok(())
    }
}

fn read_error(error: impl std::fmt::Display) -> TrainError {
    TrainError::Read(error.to_string())
}

fn pack(tensors: impl Iterator<Item = (String, Tensor<2>)>) -> Result<Vec<u8>, TrainError> {
    let mut arrays = Vec::new();
    for (name, tensor) in tensors {
        let shape = tensor.dims().to_vec();
        let data = tensor.try_into_data().map_err(|error| read_error(format!("{error:?}")))?;
        let values = data.try_to_vec::<f32>().map_err(|error| read_error(format!("{error:?}")))?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        arrays.push((name, shape, bytes));
    }
    let views = arrays
        .iter()
        .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(read_error)?;
    safetensors::serialize(views, None).map_err(read_error)
}

fn unpack(bytes: &[u8]) -> Result<SafeTensors<'_>, TrainError> {
    SafeTensors::deserialize(bytes).map_err(read_error)
}

fn tensor(
    from: &SafeTensors<'_>,
    name: &str,
    shape: [usize; 2],
    device: &Device,
) -> Result<Tensor<2>, TrainError> {
    let view = from.tensor(name).map_err(read_error)?;
    if view.shape() != shape || view.dtype() != Dtype::F32 {
        return Err(read_error(format!("`{name}` has shape {:?}, not {shape:?}", view.shape())));
    }
    let (chunks, _) = view.data().as_chunks::<4>();
    let values: Vec<f32> = chunks.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    Ok(Tensor::from_data(TensorData::new(values, shape), device))
}
