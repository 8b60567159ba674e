//! How the suites write an item. Each begins with a letter of its own, so that a model that is
//! trained on several knows which one it reads.

use std::collections::VecDeque;

use sweep_spec::{
    random::Stream,
    task::{Suite, decimal_digits, graph_edges},
};

use super::Item;

/// Draws one item of a suite.
pub(super) fn draw(suite: &Suite, draws: &mut Stream) -> Item {
    let (prompt, answer) = match *suite {
        Suite::ModularAddition { modulus } => modular_addition(modulus, draws),
        Suite::Addition { digits } => addition(digits, draws),
        Suite::Copying { length, alphabet } => copying(length, alphabet, draws),
        Suite::Induction { length } => induction(length, draws),
        Suite::Brackets { length } => brackets(length, draws),
        Suite::Sorting { length } => sorting(length, draws),
        Suite::Lookup { hops, pairs } => lookup(hops, pairs, draws),
        Suite::ShortestPath { nodes, hops } => shortest_path(nodes, hops, draws),
        Suite::File { .. } => unreachable!("the items of a file are read, not drawn"),
    };
    let choices = match suite {
        Suite::Brackets { .. } => vec![b"y".to_vec(), b"n".to_vec()],
        _ => Vec::new(),
    };
    Item {
        prompt: prompt.into_bytes(),
        answer: answer.into_bytes(),
        choices,
        chance: suite.chance(),
    }
}

fn below(bound: u32, draws: &mut Stream) -> u32 {
    u32::try_from(draws.below(u64::from(bound))).expect("below a u32")
}

/// The letter number `index` from `a`.
fn letter(index: u32) -> char {
    char::from_u32('a' as u32 + index).expect("at most 26 letters are drawn")
}

/// `count` distinct letters out of 26, in random order (the end of a Fisher-Yates shuffle).
fn distinct(count: u32, draws: &mut Stream) -> Vec<char> {
    let mut letters: Vec<char> = (0..26).map(letter).collect();
    for place in 0..count {
        let other = place + below(26 - place, draws);
        letters.swap(place as usize, other as usize);
    }
    letters.truncate(count as usize);
    letters
}

fn shuffle<T>(list: &mut [T], draws: &mut Stream) {
    for place in (1..list.len()).rev() {
        let other = usize::try_from(draws.below(place as u64 + 1)).expect("below a length");
        list.swap(place, other);
    }
}

fn modular_addition(modulus: u32, draws: &mut Stream) -> (String, String) {
    let digits = decimal_digits(modulus - 1) as usize;
    let (a, b) = (below(modulus, draws), below(modulus, draws));
    (format!("M{a:0digits$}+{b:0digits$}="), format!("{:0digits$}", (a + b) % modulus))
}

fn addition(digits: u32, draws: &mut Stream) -> (String, String) {
    let bound = 10_u64.pow(digits);
    let (a, b) = (draws.below(bound), draws.below(bound));
    let (width, wider) = (digits as usize, digits as usize + 1);
    (format!("A{a:0width$}+{b:0width$}="), format!("{:0wider$}", a + b))
}

fn copying(length: u32, alphabet: u32, draws: &mut Stream) -> (String, String) {
    let word: String = (0..length).map(|_| letter(below(alphabet, draws))).collect();
    (format!("C{word}>"), word)
}

fn induction(length: u32, draws: &mut Stream) -> (String, String) {
    let letters = distinct(length, draws);
    let place = below(length - 1, draws) as usize;
    let word: String = letters.iter().collect();
    (format!("I{word}>{}", letters[place]), letters[place + 1].to_string())
}

/// A sequence of brackets that match, drawn by opening and closing at random; in half of the items
/// one bracket is then exchanged for another, which no longer matches.
fn brackets(length: u32, draws: &mut Stream) -> (String, String) {
    const PAIRS: [(char, char); 2] = [('(', ')'), ('[', ']')];
    let mut text: Vec<char> = Vec::with_capacity(length as usize);
    let mut open: Vec<char> = Vec::new();
    for place in 0..length {
        let left = length - place;
        let must_close = u32::try_from(open.len()).expect("at most the length") == left;
        if open.is_empty() || (!must_close && below(2, draws) == 0) {
            let (opening, closing) = PAIRS[below(2, draws) as usize];
            text.push(opening);
            open.push(closing);
        } else {
            text.push(open.pop().expect("not empty"));
        }
    }
    let right = below(2, draws) == 0;
    if !right {
        let place = below(length, draws) as usize;
        let others: Vec<char> = "()[]".chars().filter(|&bracket| bracket != text[place]).collect();
        text[place] = others[below(3, draws) as usize];
    }
    let text: String = text.into_iter().collect();
    (format!("B{text}>"), if right { "y" } else { "n" }.to_owned())
}

fn sorting(length: u32, draws: &mut Stream) -> (String, String) {
    let mut letters = distinct(length, draws);
    let word: String = letters.iter().collect();
    letters.sort_unstable();
    (format!("S{word}>"), letters.into_iter().collect())
}

/// Pairs that each lead from one letter to the next; the chain of the question is among them, the
/// others lead elsewhere. No letter begins two pairs, so there is one answer, and none ends two, so
/// a guess among the ends has the same chance for each.
fn lookup(hops: u32, pairs: u32, draws: &mut Stream) -> (String, String) {
    let letters = distinct(pairs + 1, draws);
    let (hops, pairs) = (hops as usize, pairs as usize);
    let chain = letters.windows(2).take(hops).map(|pair| (pair[0], pair[1]));
    let from = &letters[hops..pairs];
    let mut to: Vec<char> = letters[..1].iter().chain(&letters[hops + 1..]).copied().collect();
    loop {
        shuffle(&mut to, draws);
        if from.iter().zip(&to).all(|(from, to)| from != to) {
            break;
        }
    }
    let others = from.iter().copied().zip(to);
    let mut edges: Vec<(char, char)> = chain.chain(others).collect();
    shuffle(&mut edges, draws);
    let written: Vec<String> = edges.iter().map(|(from, to)| format!("{from}{to}")).collect();
    (format!("L{}>{}", written.join(","), letters[0]), letters[hops].to_string())
}

/// Draws graphs until one has a pair of nodes with one shortest path of this length.
fn shortest_path(nodes: u32, hops: u32, draws: &mut Stream) -> (String, String) {
    let names = distinct(nodes, draws);
    loop {
        let mut edges = graph(nodes, draws);
        let start = below(nodes, draws);
        let ends: Vec<(u32, Vec<u32>)> = only_paths(nodes, &edges, start)
            .into_iter()
            .filter(|(_, path)| path.len() == hops as usize)
            .collect();
        if ends.is_empty() {
            continue;
        }
        let chosen = usize::try_from(draws.below(ends.len() as u64)).expect("below a length");
        let (end, path) = &ends[chosen];
        shuffle(&mut edges, draws);
        let name = |node: u32| names[node as usize];
        let written: Vec<String> =
            edges.iter().map(|&(a, b)| format!("{}{}", name(a), name(b))).collect();
        let answer = path.iter().map(|&node| name(node)).collect();
        return (format!("P{}>{}{}", written.join(","), name(start), name(*end)), answer);
    }
}

/// A connected graph: each node after the first hangs on an earlier one, then come further edges.
fn graph(nodes: u32, draws: &mut Stream) -> Vec<(u32, u32)> {
    let mut edges: Vec<(u32, u32)> = (1..nodes).map(|node| (below(node, draws), node)).collect();
    while edges.len() < graph_edges(nodes) as usize {
        let (a, b) = (below(nodes, draws), below(nodes, draws));
        let known = edges.iter().any(|&edge| edge == (a, b) || edge == (b, a));
        // A loop, or an edge that is there already, is no new edge. Four nodes have six edges, two
        // more than are asked for, so this ends.
        if a != b && !known {
            edges.push((a, b));
        }
    }
    // Neither end of an edge comes first by rule: the first hangs on an earlier one else.
    edges.iter().map(|&(a, b)| if below(2, draws) == 0 { (a, b) } else { (b, a) }).collect()
}

/// Every node with exactly one shortest path from `start`, and that path without its start
/// (breadth-first search that counts paths).
fn only_paths(nodes: u32, edges: &[(u32, u32)], start: u32) -> Vec<(u32, Vec<u32>)> {
    let count = nodes as usize;
    let (mut distance, mut ways, mut from) =
        (vec![None; count], vec![0_u32; count], vec![0; count]);
    distance[start as usize] = Some(0);
    ways[start as usize] = 1;
    let mut queue = VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        let here: u32 = distance[node as usize].expect("queued with a distance");
        for &(a, b) in edges.iter().filter(|&&(a, b)| a == node || b == node) {
            let next = (if a == node { b } else { a }) as usize;
            if distance[next].is_none() {
                distance[next] = Some(here + 1);
                from[next] = node;
                queue.push_back(u32::try_from(next).expect("a node"));
            }
            if distance[next] == Some(here + 1) {
                ways[next] += ways[node as usize];
            }
        }
    }
    let path = |end: u32| {
        let mut path = vec![end];
        while from[path[path.len() - 1] as usize] != start {
            path.push(from[path[path.len() - 1] as usize]);
        }
        path.reverse();
        path
    };
    (0..nodes)
        .filter(|&node| node != start && ways[node as usize] == 1)
        .map(|n| (n, path(n)))
        .collect()
}
