use std::{io::Write, path::PathBuf};

use super::*;

const SMALL: Limits = Limits { document_bytes: 64, decoded_bytes: 200 };

fn documents(path: &Path, limits: Limits) -> Result<Vec<Vec<u8>>, DataError> {
    let mut found = Vec::new();
    read(path, limits, &mut |place, document| {
        assert_eq!(place, found.len());
        found.push(document.to_vec());
        Ok(())
    })?;
    Ok(found)
}

fn file(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

#[test]
fn a_plain_file_is_one_document_of_any_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = b"\xff\xfe not utf-8 \0\r\n";
    for (name, content) in
        [("a.txt", bytes.to_vec()), ("a.txt.gz", gzip(bytes)), ("A.TXT.ZST", zstd(bytes))]
    {
        let path = file(&folder, name, &content);
        assert_eq!(documents(&path, SMALL).unwrap(), [bytes.to_vec()], "{name}");
    }
}

#[test]
fn gzip_members_and_zstd_frames_are_joined() {
    let folder = tempfile::tempdir().unwrap();
    for (name, one, two) in
        [("a.gz", gzip(b"one "), gzip(b"two")), ("a.zst", zstd(b"one "), zstd(b"two"))]
    {
        let path = file(&folder, name, &[one, two].concat());
        assert_eq!(documents(&path, SMALL).unwrap(), [b"one two".to_vec()], "{name}");
    }
}

#[test]
fn a_json_line_is_one_document() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "{\"text\":\"a\\nb\",\"id\":1}\r\n\n{\"id\":[2],\"text\":\"\"}\n{\"text\":\"ü\"}";
    for (name, content) in [
        ("a.jsonl", lines.as_bytes().to_vec()),
        ("a.jsonl.gz", gzip(lines.as_bytes())),
        ("a.jsonl.zst", zstd(lines.as_bytes())),
    ] {
        let path = file(&folder, name, &content);
        let expected = ["a\nb", "", "ü"].map(|text| text.as_bytes().to_vec());
        assert_eq!(documents(&path, SMALL).unwrap(), expected, "{name}");
    }
}

#[test]
fn a_bad_line_is_named_with_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    for (line, part) in [
        ("{\"id\":1}", ":2: no field `text`"),
        ("{\"text\":null}", ":2: no field `text`"),
        ("{\"text\":7}", ":2: invalid type: integer `7`, expected a string (column 9)"),
        ("{\"text\":", ":2: EOF while parsing"),
        ("[1]", ":2: invalid"),
    ] {
        let path = file(&folder, "a.jsonl", format!("{{\"text\":\"a\"}}\n{line}\n").as_bytes());
        let error = documents(&path, SMALL).unwrap_err().to_string();
        assert!(error.contains(part), "{line}: {error}");
        assert!(error.contains("a.jsonl") && error.contains("; hint: "), "{line}: {error}");
        assert!(!error.contains("at line"), "{error}");
    }
}

#[test]
fn json_lines_that_are_not_utf8_are_refused_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "a.jsonl", b"{\"text\":\"a\"}\n{\"text\":\"\xff\"}\n");
    let error = documents(&path, SMALL).unwrap_err().to_string();
    assert!(error.contains("not UTF-8 in line 2, byte 10"), "{error}");
}

#[test]
fn what_grows_beyond_its_limit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at_limit = vec![b'a'; 64];
    let over = vec![b'a'; 65];
    for (name, fits, bursts) in [
        ("a.txt", at_limit.clone(), over.clone()),
        ("a.gz", gzip(&at_limit), gzip(&vec![b'a'; 1 << 20])),
        ("a.zst", zstd(&at_limit), zstd(&vec![b'a'; 1 << 20])),
    ] {
        assert_eq!(documents(&file(&folder, name, &fits), SMALL).unwrap().len(), 1, "{name}");
        let error = documents(&file(&folder, name, &bursts), SMALL).unwrap_err();
        assert!(matches!(error, DataError::TooLarge { limit_bytes: 64, .. }), "{name}: {error}");
    }
    let long_line = format!("{{\"text\":\"{}\"}}", "a".repeat(80));
    let error = documents(&file(&folder, "a.jsonl", long_line.as_bytes()), SMALL).unwrap_err();
    assert!(error.to_string().contains("64 bytes in line 1"), "{error}");
    let many = "{\"text\":\"abcdef\"}\n".repeat(40);
    let error = documents(&file(&folder, "a.jsonl.gz", &gzip(many.as_bytes())), SMALL).unwrap_err();
    assert!(error.to_string().contains("200 bytes when decoded"), "{error}");
}

#[test]
fn a_damaged_archive_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut cut = gzip(&[b'a'; 60]);
    cut.truncate(cut.len() - 9);
    for (name, content) in [("a.gz", cut), ("b.gz", b"no gzip".to_vec()), ("a.zst", b"no".to_vec())]
    {
        let error = documents(&file(&folder, name, &content), SMALL).unwrap_err();
        assert!(matches!(error, DataError::Compressed { .. }), "{name}: {error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}
