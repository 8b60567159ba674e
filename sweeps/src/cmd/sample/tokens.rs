//! Which tokenizer a run's text is read and written with.

use std::path::Path;

use sweep_data::{Codec, DataError, Writing};
use sweep_spec::{
    data::{DataSource, Tokenizer},
    shape::Shape,
};
use worker::sample::TrainError;

use super::place::Found;
use crate::exit::{Exit, Failure};

/// Size of the vocabulary of bytes.
const BYTES: u32 = 256;

/// The tokenizer of a run: the named file, or the one that its data was made with.
pub(super) fn codec(found: &Found, named: Option<&Path>, cache: &Path) -> Result<Codec, Failure> {
    let Shape::Lm(shape) = &found.config.shape else {
        return Err(Failure::new(Exit::Usage, TrainError::Wordless));
    };
    let unreadable = |error: DataError| Failure::new(Exit::Usage, error);
    let codec = match named {
        Some(path) => Codec::read(path).map_err(unreadable)?,
        None => match Codec::of(cache, &found.config.data).map_err(unreadable)? {
            Writing::Text(codec) => codec,
            Writing::Wordless => return Err(wordless(found)),
            Writing::Unknown => from_source(found, shape.vocabulary, cache)?,
        },
    };
    // A model may have rows to spare, a tokenizer may not.
    if codec.vocabulary() > shape.vocabulary {
        let message = format!(
            "the tokenizer has a vocabulary of {}, the run one of {}; hint: name the tokenizer.json \
             that the run was trained with",
            codec.vocabulary(),
            shape.vocabulary
        );
        return Err(Failure::message(Exit::Usage, message));
    }
    Ok(codec)
}

/// What the source of the data says, where the data itself is not on this machine.
fn from_source(found: &Found, vocabulary: u32, cache: &Path) -> Result<Codec, Failure> {
    match &found.source {
        Some(DataSource::Text { tokenizer: Tokenizer::Bytes, .. }) => Ok(Codec::bytes()),
        Some(DataSource::Synthetic(_) | DataSource::Images { .. } | DataSource::Glyphs(_)) => {
            Err(wordless(found))
        }
        // Token files do not say what made them; a vocabulary of 256 is that of bytes.
        Some(DataSource::Bin { .. }) | None if vocabulary == BYTES => Ok(Codec::bytes()),
        _ => Err(unknown(found, cache)),
    }
}

fn wordless(found: &Found) -> Failure {
    let message = format!(
        "run {} was trained on tokens that are no text; hint: only runs on text write some",
        found.config.id().short()
    );
    Failure::message(Exit::Usage, message)
}

fn unknown(found: &Found, cache: &Path) -> Failure {
    let (run, data) = (found.config.id(), &found.config.data);
    let message = format!(
        "the tokenizer of run {} is not on this machine; hint: name it with --tokenizer FILE, copy \
         it from {}/data/{data} of a machine that trained it, or run `sweep plan` on its recipe \
         here, which reads the data",
        run.short(),
        cache.display()
    );
    Failure::message(Exit::NoMatch, message)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use sweep_spec::{
        data::{Glyphs, Synthetic},
        id::DataId,
        run::RunConfig,
        shape::{LmShape, Mlp},
        training::{Decay, Optimizer, Schedule, TRAINING_REVISION},
    };

    use super::*;

    fn found(vocabulary: u32, source: Option<DataSource>) -> Found {
        let shape = LmShape {
            vocabulary,
            width: 32,
            layers: 2,
            heads: 2,
            sequence: 64,
            mlp: Mlp::Relu2,
            token_shift: false,
        };
        let config = RunConfig {
            training_revision: TRAINING_REVISION,
            shape: Shape::Lm(shape),
            data: DataId::from_hash(&blake3::hash(b"data")),
            batch: 16,
            steps: 10,
            optimizer: Optimizer {
                learning_rate: 1e-2,
                base_width: 64,
                beta1: 0.9,
                beta2: 0.95,
                epsilon: 1e-8,
                weight_decay: 0.1,
                clip_norm: 1.0,
            },
            schedule: Schedule {
                warmup_steps: 100,
                warmup_fraction: 0.1,
                decay: Decay::Wsd { fraction: 0.2 },
            },
            seed: 1,
            parent: None,
            mixture: Vec::new(),
        };
        Found { config, folder: PathBuf::new(), source }
    }

    fn text(tokenizer: Tokenizer) -> DataSource {
        DataSource::Text { globs: Vec::new(), tokenizer, max_bytes: None, held_out: 0.1 }
    }

    #[test]
    fn bytes_need_no_file_and_another_tokenizer_does() {
        let cache = tempfile::tempdir().expect("a folder");
        let codec = |vocabulary, source| codec(&found(vocabulary, source), None, cache.path());
        for source in [None, Some(text(Tokenizer::Bytes))] {
            assert_eq!(codec(256, source).expect("bytes").vocabulary(), 256);
        }
        for source in [None, Some(text(Tokenizer::Bpe(512)))] {
            let failure = codec(512, source).expect_err("unknown");
            assert_eq!(failure.exit(), Exit::NoMatch);
            assert!(failure.to_string().contains("--tokenizer FILE"), "{failure}");
        }
        let synthetic =
            Synthetic { vocabulary: 256, entropy: 1.0, contexts: 4, tokens: 100, seed: 0 };
        let glyphs = Glyphs { side: 8, channels: 1, images: 10, deviation: 1.0, seed: 0 };
        for source in [DataSource::Synthetic(synthetic), DataSource::Glyphs(glyphs)] {
            let failure = codec(256, Some(source)).expect_err("no text");
            assert_eq!(failure.exit(), Exit::Usage);
            assert!(failure.to_string().contains("no text"), "{failure}");
        }
    }

    #[test]
    fn a_named_tokenizer_must_be_one_that_the_model_has_rows_for() {
        let cache = tempfile::tempdir().expect("a folder");
        let file = cache.path().join("tokenizer.json");
        let named = |vocabulary| codec(&found(vocabulary, None), Some(&file), cache.path());
        assert!(named(512).expect_err("missing").to_string().contains("tokenizer.json"));
        let vocabulary: Vec<String> = (0..300).map(|id| format!("\"t{id}\":{id}")).collect();
        let text = format!(
            r#"{{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
                "pre_tokenizer":null,"post_processor":null,"decoder":null,"model":{{"type":"WordLevel",
                "vocab":{{{}}},"unk_token":"t0"}}}}"#,
            vocabulary.join(",")
        );
        std::fs::write(&file, text).expect("writes");
        assert_eq!(named(300).expect("suits").vocabulary(), 300);
        let failure = named(256).expect_err("too large");
        assert_eq!(failure.exit(), Exit::Usage);
        assert!(failure.to_string().contains("a vocabulary of 300, the run one of 256"));
    }
}
