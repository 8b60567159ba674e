use std::{
    io::{self, Read as _, Write as _},
    sync::Arc,
};

use ::parquet::{
    data_type::{ByteArray, ByteArrayType, DoubleType},
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};

use super::*;

fn table(suffix: &str, text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(suffix).tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn mapping(arguments: &[&str]) -> Mapping {
    Mapping::new(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
}

fn refusal(suffix: &str, text: &str, maps: &[&str], filters: &[&str]) -> String {
    let file = table(suffix, text);
    let filters: Vec<Filter> = filters.iter().map(|f| f.parse().unwrap()).collect();
    read(file.path(), &mapping(maps), &filters).unwrap_err().to_string()
}

const MAPS: [&str; 3] = ["N=n", "D=tokens", "loss=loss"];

#[test]
fn csv_and_json_lines_give_the_same() {
    let csv = table(".csv", "n,tokens,loss,set\n1e6,2e7,3.5,a\n2e6,2e7,3.25,b\n");
    let json = table(
        ".jsonl",
        "{\"n\":1e6,\"tokens\":2e7,\"loss\":3.5,\"set\":\"a\"}\n\n{\"set\":\"b\",\"n\":2000000,\"tokens\":\"2e7\",\"loss\":3.25}\n",
    );
    let rows = read(csv.path(), &mapping(&MAPS), &[]).unwrap().observations;
    let others = read(json.path(), &mapping(&MAPS), &[]).unwrap().observations;
    assert_eq!(rows.len(), 2);
    for (row, other) in rows.iter().zip(&others) {
        assert_eq!((row.n, row.d, row.loss), (other.n, other.d, other.loss));
    }
    assert_eq!(rows[1].line, Some(3));
    let chosen = read(csv.path(), &mapping(&MAPS), &["set=b".parse().unwrap()]).unwrap();
    assert_eq!(chosen.observations, rows[1..]);
}

/// A check is held out of a fit, and a run that failed has no loss.
#[test]
fn of_a_table_of_ours_the_finished_runs_of_the_fit_count() {
    let text = "C,N,D,loss,role,state,sequence,family\n\
                9,1e6,2e7,3.5,fit,finished,16,diffusion\n\
                9,1e6,3e7,3.4,fit,finished,64,lm\n\
                9,1e6,2e7,,fit,failed,16,diffusion\n\
                9,1e7,2e8,2.5,check,finished,16,diffusion\n";
    let csv = table(".csv", text);
    let found = read(csv.path(), &mapping(&[]), &[]).unwrap();
    let positions: Vec<_> = found.observations.iter().map(|row| row.positions).collect();
    assert_eq!(positions, [Some(16.0), None]);
    assert_eq!(found.roles, "N, D, C, loss; rows of role=fit and state=finished");
    let checks = read(csv.path(), &mapping(&[]), &["role=check".parse().unwrap()]).unwrap();
    assert_eq!((checks.observations.len(), checks.roles.as_str()), (1, "N, D, C, loss"));
    // Who says which column is what is taken at their word.
    let maps = ["N=N", "D=D", "loss=loss"];
    assert!(refusal(".csv", text, &maps, &[]).contains("line 4: loss is ''"));
}

#[test]
fn bad_cells_are_named_by_line() {
    for cell in ["nan", "inf", "0", "-2.5", "", "abc"] {
        let text = format!("n,tokens,loss\n1e6,2e7,3.5\n1e6,2e7,{cell}\n");
        let message = refusal(".csv", &text, &MAPS, &[]);
        assert!(message.contains(&format!("line 3: loss is '{cell}'")), "{message}");
    }
    let two = refusal(".csv", "n,tokens,loss\n0,2e7,3.5\n1e6,-1,3\n", &MAPS, &[]);
    assert!(two.contains("line 2: N is '0'") && two.contains("line 3: D is '-1'"), "{two}");
}

#[test]
fn a_column_of_text_names_some_rows_and_counts_the_rest() {
    let rows: String = (0..30).map(|i| format!("model{i},1,2\n")).collect();
    let message = refusal(".csv", &format!("n,tokens,loss\n{rows}"), &MAPS, &[]);
    assert!(
        message.contains("line 21: N is 'model19'") && message.contains("10 more rows"),
        "{message}"
    );
}

#[test]
fn unknown_columns_are_answered_with_those_that_exist() {
    let text = "n,tokens,loss\n1,2,3\n";
    let mapped = refusal(".csv", text, &["N=size", "loss=loss"], &[]);
    assert!(mapped.contains("`size`") && mapped.contains("n, tokens, loss"), "{mapped}");
    let filtered = refusal(".csv", text, &MAPS, &["set=a"]);
    assert!(filtered.contains("`set`"), "{filtered}");
}

#[test]
fn without_a_mapping_the_names_of_columns_decide() {
    let named = table(".csv", "run,N,D,loss,noise\na,1e6,2e7,3.5,\nb,2e6,2e7,3.25,\n");
    let read_back = read(named.path(), &mapping(&[]), &[]).unwrap();
    assert_eq!((read_back.observations.len(), read_back.roles.as_str()), (2, "N, D, loss"));
    assert_eq!(read_back.observations[0].n, Some(1e6));
    for header in ["n,tokens,loss", "N,D,final", "loss,a,b"] {
        let message = refusal(".csv", &format!("{header}\n1,2,3\n"), &[], &[]);
        assert!(message.contains("--map N=COLUMN"), "{message}");
        assert!(message.contains(&header.replace(',', ", ")), "{message}");
    }
}

#[test]
fn files_that_are_no_tables_are_refused() {
    assert!(refusal(".csv", "", &MAPS, &[]).contains("empty"));
    assert!(refusal(".jsonl", "", &MAPS, &[]).contains("empty"));
    for (ending, text) in [(".jsonl", "{\"n\":1\n"), (".csv", "n,tokens,loss\n1,2,3\n4,5\n")] {
        let message = refusal(ending, text, &MAPS, &[]);
        assert!(message.contains("line") && message.contains("hint:"), "{message}");
    }
    assert!(refusal(".csv", "n,tokens,loss\n1,2\n", &MAPS, &[]).contains("line: 2"));
    assert!(refusal(".parquet", "", &MAPS, &[]).contains("empty"));
    assert!(refusal(".parquet", "n,tokens,loss\n", &MAPS, &[]).contains("no whole Parquet file"));
}

#[test]
fn mappings_are_checked() {
    let bad = |arguments: &[&str]| {
        Mapping::new(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>())
            .unwrap_err()
            .to_string()
    };
    assert!(bad(&["N"]).contains("ROLE=COLUMN"));
    assert!(bad(&["tokens=D", "loss=L"]).contains("roles are N, D, C"));
    assert!(bad(&["N=a", "N=b", "loss=L"]).contains("mapped twice"));
    assert!(bad(&["N=a"]).contains("loss"));
}

/// A Parquet table of n, tokens, loss and set with a null among the losses where asked for.
fn parquet_table(
    rows: usize,
    compression: ::parquet::basic::Compression,
) -> tempfile::NamedTempFile {
    let schema = "message t { required double n; required double tokens; optional double loss; \
                  required binary set (UTF8); }";
    let file = tempfile::Builder::new().suffix(".parquet").tempfile().unwrap();
    let properties = WriterProperties::builder().set_compression(compression).build();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer =
        SerializedFileWriter::new(file.reopen().unwrap(), schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let count = |i: usize| u32::try_from(i).map(f64::from).unwrap();
    for column in 0..4 {
        let mut open = group.next_column().unwrap().unwrap();
        match column {
            0 | 1 => {
                let values: Vec<f64> = (0..rows).map(|i| 1e6 * count(i % 7 + 1 + column)).collect();
                open.typed::<DoubleType>().write_batch(&values, None, None).unwrap();
            }
            2 => {
                let values: Vec<f64> = (0..rows).map(|i| 2.5 + 0.1 * count(i % 9)).collect();
                let levels = vec![1; rows];
                open.typed::<DoubleType>().write_batch(&values, Some(&levels), None).unwrap();
            }
            _ => {
                let text = |i| ByteArray::from(if i % 2 == 0 { "a" } else { "b" });
                let values: Vec<ByteArray> = (0..rows).map(text).collect();
                open.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
            }
        }
        open.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    file
}

#[test]
fn parquet_gives_the_same_as_csv() {
    use ::parquet::basic::{Compression, ZstdLevel};
    for compression in
        [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(ZstdLevel::default())]
    {
        let file = parquet_table(20, compression);
        let read_back = read(file.path(), &mapping(&MAPS), &["set=b".parse().unwrap()]).unwrap();
        let row = |i: u32| {
            let (n, d) = (1e6 * f64::from(i % 7 + 1), 1e6 * f64::from(i % 7 + 2));
            format!("{n},{d},{}\n", 2.5 + 0.1 * f64::from(i % 9))
        };
        let rows: Vec<String> = (0..20).filter(|i| i % 2 == 1).map(row).collect();
        let text = format!("n,tokens,loss\n{}", rows.concat());
        let csv = read(table(".csv", &text).path(), &mapping(&MAPS), &[]).unwrap();
        let sizes = |read: &Read| -> Vec<(Option<f64>, Option<f64>, f64)> {
            read.observations.iter().map(|row| (row.n, row.d, row.loss)).collect()
        };
        assert_eq!(sizes(&read_back), sizes(&csv));
        assert_eq!(read_back.observations[0].line, Some(2));
    }
}

#[test]
fn a_parquet_file_cut_short_is_refused() {
    let whole = parquet_table(20, ::parquet::basic::Compression::SNAPPY);
    let mut bytes = Vec::new();
    whole.reopen().unwrap().read_to_end(&mut bytes).unwrap();
    for length in [3, bytes.len() / 2, bytes.len() - 1] {
        let mut cut = tempfile::Builder::new().suffix(".parquet").tempfile().unwrap();
        cut.write_all(&bytes[..length]).unwrap();
        let error = read(cut.path(), &mapping(&MAPS), &[]).unwrap_err();
        assert_eq!(error.exit(), crate::exit::Exit::FitRefused);
        let message = error.to_string();
        assert!(message.contains("no whole Parquet file"), "{length}: {message}");
        assert!(message.contains("cut short"), "{length}: {message}");
    }
}

/// Damage ends in a message or in other numbers, never in a panic.
#[test]
fn a_table_with_any_byte_flipped_is_read_or_refused() {
    use ::parquet::basic::{Compression, ZstdLevel};
    let mut files = vec![
        (".csv", b"n,tokens,loss,set\n1e6,2e7,3.5,a\n2e6,2e7,\"3.25\",b\n".to_vec()),
        (".jsonl", b"{\"n\":1e6,\"tokens\":2e7,\"loss\":3.5,\"set\":\"a\"}\n".to_vec()),
    ];
    for compression in
        [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(ZstdLevel::default())]
    {
        let mut bytes = Vec::new();
        parquet_table(6, compression).reopen().unwrap().read_to_end(&mut bytes).unwrap();
        files.push((".parquet", bytes));
    }
    for (suffix, bytes) in files {
        let file = tempfile::Builder::new().suffix(suffix).tempfile().unwrap();
        for place in 0..bytes.len() {
            for flip in [0x01, 0x10, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[place] ^= flip;
                std::fs::write(file.path(), damaged).unwrap();
                if let Err(error) = read(file.path(), &mapping(&MAPS), &[]) {
                    let message = error.to_string();
                    let path = file.path().display().to_string();
                    assert!(message.contains(&path), "{suffix} {place} {flip:x}: {message}");
                }
            }
        }
    }
}

#[test]
fn parquet_columns_are_checked_by_row() {
    let file = parquet_table(3, ::parquet::basic::Compression::SNAPPY);
    let text = read(file.path(), &mapping(&["N=n", "D=tokens", "loss=set"]), &[]).unwrap_err();
    assert!(text.to_string().contains("row 1: loss is 'a'"), "{text}");
    let unknown = read(file.path(), &mapping(&["N=size", "loss=loss"]), &[]).unwrap_err();
    assert!(unknown.to_string().contains("n, tokens, loss, set"), "{unknown}");
    let long = parquet_table(MAX_ROWS + 1, ::parquet::basic::Compression::SNAPPY);
    let error = read(long.path(), &mapping(&MAPS), &[]).unwrap_err();
    assert!(matches!(error, SourceError::TooLong { .. }), "{error}");
}

/// A CSV of ten million rows that no disk holds.
struct Endless {
    rows: usize,
    given: usize,
}

impl io::Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        const ROW: &[u8] = b"1000000,2e7,3.5\n";
        let rows = (buffer.len() / ROW.len()).min(self.rows - self.given);
        for part in buffer.chunks_exact_mut(ROW.len()).take(rows) {
            part.copy_from_slice(ROW);
        }
        self.given += rows;
        Ok(rows * ROW.len())
    }
}

#[test]
fn ten_million_rows_are_refused_while_they_are_read() {
    let mut endless = Endless { rows: 10_000_000, given: 0 };
    let header = io::Cursor::new(b"n,tokens,loss\n".to_vec());
    let input = BufReader::new(header).chain(&mut endless);
    let error = super::csv::read(Path::new("long.csv"), input, &mapping(&MAPS), &[]).unwrap_err();
    assert!(matches!(error, SourceError::TooLong { .. }), "{error}");
    assert!(error.to_string().contains("--where"), "{error}");
    // What was taken in is the limit and a buffer, not the file.
    assert!(endless.given < MAX_ROWS + 100_000, "{}", endless.given);
}

#[test]
fn measured_seconds_are_read_beside_the_observations() {
    let csv = table(".csv", "n,tokens,loss,s\n1e6,2e7,3.5,12\n2e6,2e7,3.25,24.5\n");
    let maps = ["N=n", "D=tokens", "loss=loss", "seconds=s"];
    let read = read(csv.path(), &mapping(&maps), &[]).unwrap();
    assert_eq!(read.seconds, [12.0, 24.5]);
}
