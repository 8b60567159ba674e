use std::fs;

use sweep_spec::data::{Synthetic, Tokenizer};

use super::*;
use crate::{Codec, Writing};

struct Corpus {
    folder: tempfile::TempDir,
}

impl Corpus {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// A corpus of English-like documents of differing lengths.
    fn with_documents(count: usize) -> Self {
        let corpus = Self::new();
        for i in 0..count {
            corpus.write(&format!("doc{i}.txt"), document(i).as_bytes());
        }
        corpus
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.folder.path().join("data").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn source(&self, tokenizer: Tokenizer) -> DataSource {
        let globs = vec![format!("{}/data/**/*", self.folder.path().display())];
        DataSource::Text { globs, tokenizer, max_bytes: None, held_out: 0.2 }
    }
}

fn document(i: usize) -> String {
    (0..20 + i % 13).map(|j| format!("the number {} of document {i}. ", i * j)).collect()
}

fn tokens(file: &TokenFile) -> Vec<u8> {
    let mut out = vec![0; usize::try_from(file.len()).unwrap()];
    file.copy(0, &mut out);
    out.into_iter().map(|token| u8::try_from(token).unwrap()).collect()
}

#[test]
fn every_document_is_on_one_side_and_ends_with_the_separator() {
    let corpus = Corpus::with_documents(40);
    let source = corpus.source(Tokenizer::Bytes);
    let manifest = resolve(&source, &corpus.cache()).unwrap();
    let opened = open(&source, &corpus.cache(), &manifest.id).unwrap();
    assert_eq!(opened.manifest(), &manifest);
    let split = |file: &TokenFile| -> Vec<Vec<u8>> {
        let bytes = tokens(file);
        assert_eq!(bytes.last(), Some(&0));
        bytes[..bytes.len() - 1].split(|&b| b == 0).map(<[u8]>::to_vec).collect()
    };
    let (train, validation) = (split(opened.train()), split(opened.validation()));
    assert_eq!(train.len() as u64, manifest.train_documents);
    assert_eq!(validation.len() as u64, manifest.validation_documents);
    assert!(!validation.is_empty());
    let mut all = [train, validation].concat();
    all.sort();
    let mut expected: Vec<Vec<u8>> = (0..40).map(|i| document(i).into_bytes()).collect();
    expected.sort();
    assert_eq!(all, expected);
    assert_eq!(manifest.vocabulary, 256);
    assert_eq!(manifest.bytes_per_token, Some(1.0));
}

#[test]
fn names_folders_and_containers_do_not_matter() {
    let plain = Corpus::with_documents(30);
    let lines = Corpus::new();
    let text: String = (0..30)
        .rev()
        .map(|i| format!("{}\n", serde_json::json!({ "n": i, "text": document(i) })))
        .collect();
    lines.write("deep/er/all.jsonl.zst", &zstd::encode_all(text.as_bytes(), 1).unwrap());
    lines.write("copy.txt", document(3).as_bytes());
    lines.write("empty.txt", b"");
    let one = resolve(&plain.source(Tokenizer::Bytes), &plain.cache()).unwrap();
    let other = resolve(&lines.source(Tokenizer::Bytes), &lines.cache()).unwrap();
    assert_eq!(one, other);
}

#[test]
fn any_change_of_content_split_or_tokenizer_is_other_data() {
    let corpus = Corpus::with_documents(30);
    let cache = corpus.cache();
    let source = corpus.source(Tokenizer::Bytes);
    let mut ids = vec![resolve(&source, &cache).unwrap().id];
    ids.push(resolve(&corpus.source(Tokenizer::Bpe(300)), &cache).unwrap().id);
    let DataSource::Text { globs, tokenizer, .. } = source.clone() else { unreachable!() };
    let held_out = DataSource::Text {
        globs: globs.clone(),
        tokenizer: tokenizer.clone(),
        max_bytes: None,
        held_out: 0.5,
    };
    ids.push(resolve(&held_out, &cache).unwrap().id);
    let short = DataSource::Text { globs, tokenizer, max_bytes: Some(9_000), held_out: 0.2 };
    ids.push(resolve(&short, &cache).unwrap().id);
    corpus.write("doc7.txt", b"something else");
    ids.push(resolve(&source, &cache).unwrap().id);
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);
}

#[test]
fn bytes_need_not_be_utf8_but_other_tokenizers_do() {
    let corpus = Corpus::with_documents(10);
    corpus.write("blob.txt", b"\xff\xfe\xfd");
    assert!(resolve(&corpus.source(Tokenizer::Bytes), &corpus.cache()).is_ok());
    let error = resolve(&corpus.source(Tokenizer::Bpe(300)), &corpus.cache()).unwrap_err();
    assert!(error.to_string().contains("blob.txt` is not UTF-8 at byte 1"), "{error}");
}

#[test]
fn byte_pair_encoding_gives_the_text_back_and_is_the_same_each_time() {
    let corpus = Corpus::with_documents(60);
    let source = corpus.source(Tokenizer::Bpe(400));
    let manifest = resolve(&source, &corpus.cache()).unwrap();
    assert_eq!(manifest.vocabulary, 400);
    let ratio = manifest.bytes_per_token.unwrap();
    assert!(ratio > 1.5 && ratio < 20.0, "{ratio}");
    let elsewhere = corpus.folder.path().join("elsewhere");
    assert_eq!(resolve(&source, &elsewhere).unwrap(), manifest);

    let opened = open(&source, &corpus.cache(), &manifest.id).unwrap();
    let mut ids = vec![0; usize::try_from(opened.validation().len()).unwrap()];
    opened.validation().copy(0, &mut ids);
    let json = fs::read_dir(corpus.cache().join("tokenizers")).unwrap().next().unwrap().unwrap();
    let tokenizer = tokenizers::Tokenizer::from_file(json.path()).unwrap();
    let ids: Vec<u32> = ids.into_iter().map(|id| u32::try_from(id).unwrap()).collect();
    let text = tokenizer.decode(&ids, false).unwrap();
    let known: Vec<String> = (0..60).map(document).collect();
    let documents: Vec<&str> = text.strip_suffix('\0').unwrap().split('\0').collect();
    assert_eq!(documents.len() as u64, manifest.validation_documents);
    assert!(documents.iter().all(|document| known.iter().any(|k| k == document)), "{text}");

    // The same file, given as a tokenizer.json, has no end token: documents end with a line.
    let file = corpus.source(Tokenizer::File(json.path().display().to_string()));
    let other = resolve(&file, &corpus.cache()).unwrap();
    assert_eq!(other.vocabulary, 400);
    assert_ne!(other.id, manifest.id);
}

fn codec(cache: &Path, id: &DataId) -> Codec {
    match Codec::of(cache, id).unwrap() {
        Writing::Text(codec) => codec,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_tokenizer_of_a_data_set_reads_what_was_written_with_it() {
    let corpus = Corpus::with_documents(60);
    let cache = corpus.cache();
    let source = corpus.source(Tokenizer::Bpe(400));
    let id = resolve(&source, &cache).unwrap().id;
    let codec = codec(&cache, &id);
    assert_eq!(codec.vocabulary(), 400);
    let (prompt, rest) = ("the number 12 of", " document 3. äöü");
    let (before, after) = (codec.encode(prompt).unwrap(), codec.encode(rest).unwrap());
    assert!(before.len() < prompt.len(), "pairs were merged");
    let end = codec.encode("").unwrap();
    assert_eq!(end.len(), 1);
    let written = [&after[..], &end, &before].concat();
    assert_eq!(codec.decode(&before, &written).unwrap(), rest, "the end of a document ends it");
    assert_eq!(codec.decode(&end, &after).unwrap(), rest);
    assert!(codec.decode(&before, &after[..after.len() - 1]).unwrap().ends_with('\u{fffd}'));

    // A cache of before, where only the shards were kept, learns it when the source is read again.
    let kept = cache.join("data").join(id.as_str()).join("bpe.json");
    fs::remove_file(&kept).unwrap();
    assert!(matches!(Codec::of(&cache, &id).unwrap(), Writing::Unknown));
    resolve(&source, &cache).unwrap();
    assert!(kept.is_file());

    // A copy of it ends documents alike.
    let copy = corpus.folder.path().join("bpe.json");
    fs::copy(&kept, &copy).unwrap();
    assert_eq!(Codec::read(&copy).unwrap().decode(&before, &written).unwrap(), rest);

    // A tokenizer that the recipe names is kept as it is.
    let file = corpus.source(Tokenizer::File(kept.display().to_string()));
    let named = self::codec(&cache, &resolve(&file, &cache).unwrap().id);
    let line = named.encode("a\n\nb").unwrap();
    assert_eq!(named.decode(&[], &line).unwrap(), "a\n\nb", "an empty line ends nothing");
}

#[test]
fn bytes_are_text_and_drawn_tokens_are_not() {
    let corpus = Corpus::with_documents(30);
    let cache = corpus.cache();
    let bytes = resolve(&corpus.source(Tokenizer::Bytes), &cache).unwrap().id;
    assert_eq!(codec(&cache, &bytes).vocabulary(), 256);
    let source = DataSource::Synthetic(Synthetic {
        vocabulary: 256,
        entropy: 2.0,
        contexts: 20,
        tokens: 5_000,
        seed: 3,
    });
    let id = resolve(&source, &cache).unwrap().id;
    open(&source, &cache, &id).unwrap();
    assert!(matches!(Codec::of(&cache, &id).unwrap(), Writing::Wordless));
}

#[test]
fn the_cache_answers_when_the_source_is_gone_and_is_made_again_when_damaged() {
    let corpus = Corpus::with_documents(30);
    let source = corpus.source(Tokenizer::Bytes);
    let cache = corpus.cache();
    let id = resolve(&source, &cache).unwrap().id;
    let bytes = tokens(open(&source, &cache, &id).unwrap().train());
    let shard = cache.join("data").join(id.as_str()).join("train.tokens");

    let mut damaged = fs::read(&shard).unwrap();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    fs::write(&shard, &damaged).unwrap();
    assert_eq!(tokens(open(&source, &cache, &id).unwrap().train()), bytes);

    fs::remove_file(shard.with_file_name("validation.tokens")).unwrap();
    assert_eq!(tokens(open(&source, &cache, &id).unwrap().train()), bytes);

    corpus.write("doc1.txt", b"changed after the plan");
    assert_eq!(tokens(open(&source, &cache, &id).unwrap().train()), bytes);
    fs::remove_dir_all(cache.join("data")).unwrap();
    let error = open(&source, &cache, &id).unwrap_err();
    assert!(matches!(error, DataError::OtherData { .. }), "{error}");
}

#[test]
fn processes_that_race_end_with_one_whole_folder() {
    let corpus = Corpus::with_documents(30);
    let source = corpus.source(Tokenizer::Bytes);
    let manifests: Vec<DataManifest> = std::thread::scope(|scope| {
        let calls: Vec<_> =
            (0..8).map(|_| scope.spawn(|| resolve(&source, &corpus.cache()).unwrap())).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert!(manifests.windows(2).all(|pair| pair[0] == pair[1]));
    let left = fs::read_dir(corpus.cache().join("data")).unwrap().count();
    assert_eq!(left, 1, "no unfinished folder stays");
    open(&source, &corpus.cache(), &manifests[0].id).unwrap();
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let corpus = Corpus::with_documents(10);
    let under_a_file = corpus.folder.path().join("data/doc1.txt/cache");
    let error = resolve(&corpus.source(Tokenizer::Bytes), &under_a_file).unwrap_err();
    assert!(error.to_string().contains("doc1.txt/cache"), "{error}");
}

#[test]
fn synthetic_data_is_resolved_without_drawing_it_and_opened_with() {
    let folder = tempfile::tempdir().unwrap();
    let source = DataSource::Synthetic(Synthetic {
        vocabulary: 16,
        entropy: 1.2,
        contexts: 20,
        tokens: 5_000,
        seed: 3,
    });
    let manifest = resolve(&source, folder.path()).unwrap();
    assert_eq!(manifest.entropy, Some(1.2));
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
    let opened = open(&source, folder.path(), &manifest.id).unwrap();
    assert_eq!(opened.manifest(), &manifest);
    let first = tokens(opened.train());
    assert!(first.iter().all(|&token| token < 16));
    assert_eq!(tokens(open(&source, folder.path(), &manifest.id).unwrap().train()), first);
    assert_ne!(tokens(opened.validation())[..100], first[..100]);
}
