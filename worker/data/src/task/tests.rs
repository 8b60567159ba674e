use std::{collections::HashMap, fs};

use super::*;

const SUITES: [Suite; 9] = [
    Suite::ModularAddition { modulus: 97 },
    Suite::Addition { digits: 3 },
    Suite::Copying { length: 5, alphabet: 8 },
    Suite::Induction { length: 8 },
    Suite::Brackets { length: 10 },
    Suite::Sorting { length: 5 },
    Suite::Lookup { hops: 3, pairs: 6 },
    Suite::ShortestPath { nodes: 6, hops: 3 },
    Suite::ShortestPath { nodes: 4, hops: 2 },
];

fn task(suite: Suite, items: u32, fraction: f64) -> Task {
    Task { name: suite.name().to_owned(), suite, path: None, items, fraction, times: 1 }
}

fn open(suite: &Suite, items: u32) -> TaskItems {
    TaskItems::open(&task(suite.clone(), items, 0.5), 512).expect("items")
}

fn texts(item: &Item) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("ASCII");
    (text(&item.prompt), text(&item.answer))
}

#[test]
fn a_held_out_item_is_never_drawn_for_training() {
    for suite in SUITES {
        let items = open(&suite, 100);
        let held: HashSet<&[u8]> = items.held_out().iter().map(|item| &item.prompt[..]).collect();
        assert_eq!(held.len(), items.held_out().len(), "{suite:?}: distinct");
        assert!(held.len() >= 50, "{suite:?}: {} items", held.len());
        let mut draws = Stream::new(1, Purpose::TaskMixture, 0);
        for _ in 0..2000 {
            let item = items.draw(&mut draws);
            assert!(!held.contains(&item.prompt[..]), "{suite:?}: {:?}", texts(&item));
        }
    }
}

#[test]
fn more_items_leave_the_first_ones_and_the_training_text_alone() {
    let (few, many) = (open(&SUITES[0], 10), open(&SUITES[0], 100));
    assert_eq!(few.held_out(), &many.held_out()[..10]);
    let text = |items: &TaskItems| items.window(200, &mut Stream::new(5, Purpose::TaskMixture, 7));
    assert_eq!(text(&few), text(&many));
}

#[test]
fn windows_are_as_long_as_the_plan_says() {
    for suite in SUITES {
        let window = suite.window().expect("a suite") as usize;
        let items = open(&suite, 200);
        assert_eq!(items.held_out().iter().map(Item::window).max(), Some(window), "{suite:?}");
    }
}

#[test]
fn sums_are_right() {
    for suite in &SUITES[..2] {
        for item in open(suite, 200).held_out() {
            let (prompt, answer) = texts(item);
            let sum = prompt[1..].trim_end_matches('=');
            let (a, b) = sum.split_once('+').expect("a sum");
            let sum = a.parse::<u32>().expect("a") + b.parse::<u32>().expect("b");
            let expected = if prompt.starts_with('M') { sum % 97 } else { sum };
            assert_eq!(answer.parse(), Ok(expected), "{prompt}{answer}");
        }
    }
}

#[test]
fn words_are_copied_sorted_and_continued() {
    for item in open(&SUITES[2], 100).held_out() {
        let (prompt, answer) = texts(item);
        assert_eq!(prompt, format!("C{answer}>"));
    }
    for item in open(&SUITES[5], 60).held_out() {
        let (prompt, answer) = texts(item);
        let mut sorted: Vec<char> = prompt[1..6].chars().collect();
        sorted.sort_unstable();
        assert_eq!(answer, sorted.into_iter().collect::<String>());
    }
    for item in open(&SUITES[3], 100).held_out() {
        let (prompt, answer) = texts(item);
        let (word, asked) = prompt[1..].split_once('>').expect("a question");
        assert!(word.contains(&format!("{asked}{answer}")), "{prompt}{answer}");
    }
}

fn brackets_match(text: &str) -> bool {
    let mut open = Vec::new();
    for bracket in text.chars() {
        match bracket {
            '(' => open.push(')'),
            '[' => open.push(']'),
            closing if open.pop() != Some(closing) => return false,
            _ => {}
        }
    }
    open.is_empty()
}

#[test]
fn brackets_match_exactly_where_the_answer_says() {
    let items = open(&SUITES[4], 300);
    let mut yes = 0_usize;
    for item in items.held_out() {
        let (prompt, answer) = texts(item);
        assert_eq!(brackets_match(&prompt[1..11]), answer == "y", "{prompt}{answer}");
        yes += usize::from(answer == "y");
    }
    // As many of each, but for one, also where one kind is used up.
    let no = items.held_out().len() - yes;
    assert!(yes >= 50 && yes.abs_diff(no) <= 1, "{yes} and {no}");
}

#[test]
fn steps_along_the_pairs_lead_to_the_answer() {
    for hops in 1..=4 {
        for item in open(&Suite::Lookup { hops, pairs: 6 }, 100).held_out() {
            let (prompt, answer) = texts(item);
            let (pairs, start) = prompt[1..].split_once('>').expect("a question");
            let next: HashMap<&str, &str> = pairs.split(',').map(|pair| pair.split_at(1)).collect();
            assert_eq!(next.len(), 6, "{prompt}: no letter begins two pairs");
            let end = (0..hops).fold(start, |place, _| next[place]);
            assert_eq!(end, answer, "{prompt}{answer}");
        }
    }
}

/// All paths of a length from a node, by trying every edge.
fn paths(edges: &[(char, char)], from: char, to: char, hops: usize) -> Vec<String> {
    if hops == 0 {
        return if from == to { vec![String::new()] } else { Vec::new() };
    }
    let steps = edges.iter().flat_map(|&(a, b)| [(a, b), (b, a)]).filter(|&(a, _)| a == from);
    steps
        .flat_map(|(_, next)| {
            paths(edges, next, to, hops - 1).into_iter().map(move |rest| format!("{next}{rest}"))
        })
        .collect()
}

#[test]
fn paths_are_the_only_shortest_ones() {
    for (suite, hops) in [(&SUITES[7], 3), (&SUITES[8], 2)] {
        for item in open(suite, 100).held_out() {
            let (prompt, answer) = texts(item);
            let (edges, ends) = prompt[1..].split_once('>').expect("a question");
            let letter = |text: &str, place: usize| text.chars().nth(place).expect("a letter");
            let edges: Vec<(char, char)> =
                edges.split(',').map(|edge| (letter(edge, 0), letter(edge, 1))).collect();
            let (start, end) = (letter(ends, 0), letter(ends, 1));
            for shorter in 0..hops {
                assert_eq!(paths(&edges, start, end, shorter), [""; 0], "{prompt}");
            }
            assert_eq!(paths(&edges, start, end, hops), [answer.as_str()], "{prompt}");
        }
    }
}

/// A guess that knows the form of an answer is right as often as the chance level says.
#[test]
fn a_guess_is_right_at_the_chance_level() {
    for suite in [
        Suite::Induction { length: 5 },
        Suite::Lookup { hops: 2, pairs: 3 },
        Suite::Copying { length: 2, alphabet: 3 },
        Suite::ModularAddition { modulus: 11 },
    ] {
        let chance = suite.chance().expect("a suite");
        let mut draws = Stream::new(3, Purpose::Resampling, 0);
        let mut right = 0;
        let count = 20_000;
        for _ in 0..count {
            let item = suites::draw(&suite, &mut draws);
            let (prompt, answer) = texts(&item);
            let mut guess = || match suite {
                Suite::Induction { .. } => {
                    prompt[2..6].chars().nth(draws.below(4) as usize).expect("four").to_string()
                }
                Suite::Lookup { .. } => {
                    let pair = prompt[1..].split(',').nth(draws.below(3) as usize).expect("pairs");
                    pair[1..2].to_owned()
                }
                Suite::Copying { .. } => {
                    (0..2).map(|_| ['a', 'b', 'c'][draws.below(3) as usize]).collect()
                }
                _ => format!("{:02}", draws.below(11)),
            };
            right += u32::from(guess() == answer);
        }
        let rate = f64::from(right) / f64::from(count);
        let deviation = (chance * (1.0 - chance) / f64::from(count)).sqrt();
        assert!((rate - chance).abs() < 4.0 * deviation, "{suite:?}: {rate} against {chance}");
    }
}

/// The text is part of a run's identity: a change of the construction must be seen.
#[test]
fn the_drawn_text_is_golden() {
    let mut text = String::new();
    for (suite, stream) in SUITES.iter().zip(0..) {
        let items = open(suite, 1);
        let window = items.window(60, &mut Stream::new(1, Purpose::TaskMixture, stream));
        text.push_str(&String::from_utf8(window).expect("ASCII").replace('\n', " "));
        text.push('\n');
    }
    insta::assert_snapshot!(text);
}

fn file_task(lines: &str, window: usize) -> Result<TaskItems, DataError> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("items.jsonl");
    fs::write(&path, lines).expect("writes");
    let path = path.to_str().expect("UTF-8");
    let content = content_of(path, window)?;
    let suite = Suite::File { content, held_out: 0.25 };
    TaskItems::open(&Task { path: Some(path.to_owned()), ..task(suite, 100, 0.5) }, window)
}

#[test]
fn a_file_of_items_is_split_by_content() {
    let line = |n: u32| format!("{{\"prompt\": \"{n} is \", \"answer\": \"{}\"}}\n", n % 2);
    let forward: String = (0..20).map(line).collect();
    let backward: String = (0..20).rev().map(line).collect();
    let items = file_task(&forward, 64).expect("items");
    assert_eq!((items.held_out().len(), items.train.len()), (5, 15));
    assert_eq!(file_task(&backward, 64).expect("items").held_out(), items.held_out());
    let choice = "{\"prompt\": \"a\", \"choices\": [\"x\", \"yy\"], \"answer\": 1}\n\n\
                  {\"prompt\": \"b\", \"choices\": [\"x\", \"y\"], \"answer\": 0}\n";
    let items = file_task(choice, 64).expect("items");
    let all: Vec<&Item> = items.held_out().iter().chain(&items.train).collect();
    assert!(all.iter().all(|item| item.chance == Some(0.5)), "{all:?}");
    assert!(all.iter().any(|item| item.answer == b"yy"), "{all:?}");
}

#[test]
fn a_line_that_is_no_item_is_refused_by_its_number() {
    let good = "{\"prompt\": \"a\", \"answer\": \"b\"}\n";
    let refusal = |line: &str| {
        let error = file_task(&format!("{good}{line}"), 8).expect_err(line).to_string();
        error.split_once("items.jsonl").expect("names the file").1.to_owned()
    };
    let lines = [
        "{\"prompt\": \"c\"}",
        "{\"prompt\": \"c\", \"answer\": \"\"}",
        "{\"prompt\": \"c\", \"answer\": 3}",
        "{\"prompt\": \"c\", \"choices\": [\"x\", \"y\"], \"answer\": 2}",
        "{\"prompt\": \"c\", \"choices\": [\"x\"], \"answer\": 0}",
        "{\"prompt\": \"a\", \"answer\": \"d\"}",
        "{\"prompt\": \"abcdef\", \"answer\": \"ghi\"}",
        "{\"promt\": \"c\", \"answer\": \"d\"}",
        "no JSON",
        "",
    ];
    let said: Vec<String> = lines.into_iter().map(refusal).collect();
    insta::assert_snapshot!(said.join("\n"));
}
