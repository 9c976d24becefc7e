//! The promises are numbered 1 to 18; code, tests and docs cite them by number.
//!
//! A number that does not exist is a finding. Which promises tests cite is printed, so that a promise without a test
//! shows; it is no finding by itself.

use std::collections::BTreeMap;

use super::Outcome;
use super::scan;
use crate::Failure;
use crate::workspace::Workspace;

const LAST: u32 = 18;

pub(crate) fn check(workspace: &Workspace) -> Result<Outcome, Failure> {
    let mut wrong = Vec::new();
    let mut by_tests: BTreeMap<u32, usize> = BTreeMap::new();
    for path in workspace.files()? {
        // This tool's own tests cite numbers to prove that it reads them.
        if path.starts_with("xtask/") || !(path.ends_with(".rs") || path.ends_with(".md")) {
            continue;
        }
        let Some(text) = workspace.text(&path)? else { continue };
        let tests_from = if !path.ends_with(".rs") {
            usize::MAX
        } else if scan::is_test_file(&path) {
            0
        } else {
            scan::code(&text).tests_from
        };
        for Citation { line, number } in citations(&text) {
            if !(1..=LAST).contains(&number) {
                wrong.push(format!("{path}:{}: there is no promise {number}", line + 1));
            } else if line >= tests_from {
                *by_tests.entry(number).or_default() += 1;
            }
        }
    }
    let cited: Vec<String> = by_tests.iter().map(|(number, times)| format!("{number} ({times}×)")).collect();
    let seen = if cited.is_empty() {
        format!("tests cite none of {LAST} promises")
    } else {
        format!("tests cite {} of {LAST}: {}", cited.len(), cited.join(", "))
    };
    Ok(Outcome::Checked { seen, wrong })
}

#[derive(Debug, PartialEq, Eq)]
struct Citation {
    /// From 0.
    line: usize,
    number: u32,
}

/// Finds `promise 6`, `Promises 1, 2 and 7`, `promises 3 to 5` (both ends), `promise_6`; also when the line breaks
/// behind the word.
fn citations(text: &str) -> Vec<Citation> {
    let lines: Vec<String> = text.lines().map(bare).collect();
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        for (at, word) in line.match_indices("promise") {
            let rest = &line[at + word.len()..];
            let rest = rest.strip_prefix('s').unwrap_or(rest);
            let next = lines.get(number + 1).map_or("", String::as_str);
            let wrapped = format!("{rest} {next}");
            let numbers = if rest.trim().is_empty() { numbers(&wrapped) } else { numbers(rest) };
            found.extend(numbers.into_iter().map(|cited| Citation { line: number, number: cited }));
        }
    }
    found
}

/// A line in small letters without the marks of a comment.
fn bare(line: &str) -> String {
    let line = line.trim_start().trim_start_matches(['/', '!', '*', '#', '>']);
    line.trim().to_lowercase()
}

/// The numbers at the front: `6`, `1, 2 and 7`.
fn numbers(text: &str) -> Vec<u32> {
    let mut rest = text.strip_prefix('_').unwrap_or(text).trim_start_matches(' ');
    if rest.len() == text.len() {
        return Vec::new(); // `promise7` and `promise;` cite nothing
    }
    let mut found = Vec::new();
    loop {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let Ok(number) = rest[..digits].parse() else { return found };
        found.push(number);
        rest = &rest[digits..];
        let joined = [", and ", ", ", " and ", " to ", "–", " & "];
        let Some(after) = joined.iter().find_map(|joint| rest.strip_prefix(joint)) else {
            return found;
        };
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cited(text: &str) -> Vec<u32> {
        citations(text).into_iter().map(|citation| citation.number).collect()
    }

    #[test]
    fn the_ways_to_cite_are_read() {
        assert_eq!(cited("/// Promise 6: never early."), [6]);
        assert_eq!(cited("//! (promises 1, 2 and 7)"), [1, 2, 7]);
        assert_eq!(cited("fn promise_12_holds()"), [12]);
        assert_eq!(cited("/// what is owed (promise\n/// 14)"), [14]);
        assert_eq!(cited("promise 19"), [19]);
    }

    #[test]
    fn the_word_alone_cites_nothing() {
        assert_eq!(cited("a promise. 3 things; promises hold; compromise"), Vec::<u32>::new());
    }
}
