use std::io::Write as _;

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
fn files_that_are_no_tables_are_refused() {
    assert!(refusal(".csv", "", &MAPS, &[]).contains("empty"));
    assert!(refusal(".jsonl", "", &MAPS, &[]).contains("empty"));
    assert!(refusal(".jsonl", "{\"n\":1\n", &MAPS, &[]).contains("line 1"));
    assert!(refusal(".csv", "n,tokens,loss\n1,2\n", &MAPS, &[]).contains("line: 2"));
    assert!(refusal(".parquet", "PAR1", &MAPS, &[]).contains("Parquet"));
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
