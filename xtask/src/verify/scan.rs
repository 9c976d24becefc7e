//! Rust text as the checks need it: line by line, code and comments apart, literals blank, and where its tests begin.
//!
//! A small lexer, not a parser: enough to tell code from a string or a comment that mentions the same words.

/// A file's lines, as many as it has and at the same places.
#[derive(Debug)]
pub(crate) struct Code {
    /// Code alone: comments and the inside of literals are spaces.
    pub(crate) lines: Vec<String>,
    /// Comments alone, doc comments too.
    pub(crate) comments: Vec<String>,
    /// The first line (from 0) of a `#[cfg(test)]` module or item; the number of lines when there is none. What
    /// follows it counts as test, which is how this workspace lays out its files.
    pub(crate) tests_from: usize,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Code,
    LineComment,
    BlockComment(u32),
    Text,
    RawText(usize),
}

pub(crate) fn code(text: &str) -> Code {
    let characters: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut comments = String::new();
    let mut state = State::Code;
    let mut at = 0;
    while let Some(&c) = characters.get(at) {
        let next = characters.get(at + 1).copied();
        let (new_state, taken, kept) = match state {
            State::Code => in_code(&characters, at, c, next),
            State::LineComment if c == '\n' => (State::Code, 1, false),
            State::LineComment => (State::LineComment, 1, false),
            State::BlockComment(depth) => match (c, next) {
                ('*', Some('/')) if depth == 1 => (State::Code, 2, false),
                ('*', Some('/')) => (State::BlockComment(depth - 1), 2, false),
                ('/', Some('*')) => (State::BlockComment(depth + 1), 2, false),
                _ => (State::BlockComment(depth), 1, false),
            },
            State::Text if c == '\\' => (State::Text, 2, false),
            State::Text if c == '"' => (State::Code, 1, true),
            State::Text => (State::Text, 1, false),
            State::RawText(hashes) if c == '"' && has_hashes(&characters, at + 1, hashes) => {
                (State::Code, 1 + hashes, true)
            }
            State::RawText(hashes) => (State::RawText(hashes), 1, false),
        };
        let in_comment = matches!(new_state, State::LineComment | State::BlockComment(_));
        for &taken in characters.iter().skip(at).take(taken) {
            out.push(if kept || taken == '\n' { taken } else { ' ' });
            comments.push(if in_comment || taken == '\n' { taken } else { ' ' });
        }
        state = new_state;
        at += taken;
    }
    let lines: Vec<String> = out.lines().map(str::to_owned).collect();
    let tests_from =
        lines.iter().position(|line| line.trim_start().starts_with("#[cfg(test)]")).unwrap_or(lines.len());
    Code { lines, comments: comments.lines().map(str::to_owned).collect(), tests_from }
}

/// The state after what starts at `at`, how many characters that is, and whether they are kept.
fn in_code(characters: &[char], at: usize, c: char, next: Option<char>) -> (State, usize, bool) {
    match (c, next) {
        ('/', Some('/')) => (State::LineComment, 2, false),
        ('/', Some('*')) => (State::BlockComment(1), 2, false),
        ('"', _) => (State::Text, 1, true),
        ('r', Some('"' | '#')) if !is_word(at.checked_sub(1).and_then(|i| characters.get(i))) => {
            raw(characters, at)
        }
        ('b', Some('r')) if matches!(characters.get(at + 2), Some('"' | '#')) => {
            let (state, taken, kept) = raw(characters, at + 1);
            (state, taken + 1, kept)
        }
        // A character literal, unless it is a lifetime.
        ('\'', Some('\\')) => {
            let end = characters.iter().skip(at + 3).position(|&c| c == '\'');
            (State::Code, end.map_or(2, |end| end + 4), false)
        }
        ('\'', Some(_)) if characters.get(at + 2) == Some(&'\'') => (State::Code, 3, false),
        _ => (State::Code, 1, true),
    }
}

fn raw(characters: &[char], at: usize) -> (State, usize, bool) {
    let hashes = characters.iter().skip(at + 1).take_while(|&&c| c == '#').count();
    if characters.get(at + 1 + hashes) == Some(&'"') {
        (State::RawText(hashes), 2 + hashes, true)
    } else {
        (State::Code, 1, true) // r#identifier
    }
}

fn has_hashes(characters: &[char], from: usize, hashes: usize) -> bool {
    characters.iter().skip(from).take(hashes).filter(|&&c| c == '#').count() == hashes
}

fn is_word(c: Option<&char>) -> bool {
    c.is_some_and(|c| c.is_alphanumeric() || *c == '_')
}

/// Whether all of a file is test code, by where it lies: the suites for implementers are tests in a library's place.
pub(crate) fn is_test_file(path: &str) -> bool {
    path.split('/').any(|part| part == "tests")
        || path.ends_with("/tests.rs")
        || path.starts_with("webhook-conformance/")
        || path.starts_with("online/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blank_and_code_is_not() {
        let text = "let a = \"todo!()\"; // todo!()\n/* todo!() /* todo!() */ */ let b = r#\"todo!()\"#;\ntodo!();\n";
        let lines = code(text).lines;
        let found: Vec<bool> = lines.iter().map(|line| line.contains("todo!")).collect();
        assert_eq!(found, [false, false, true]);
        assert!(lines[1].contains("let b"));
    }

    #[test]
    fn lifetimes_and_character_literals_do_not_open_a_string() {
        let lines = code("fn f<'a>(x: &'a str) { g('\"', '\\'', b'\"', '\\u{1F600}'); }\nh();\n").lines;
        assert!(lines[0].contains("fn f<'a>(x: &'a str)"));
        assert_eq!(lines[1], "h();");
    }

    #[test]
    fn lines_keep_their_numbers_across_strings_of_many_lines() {
        let lines = code("let a = \"one\ntwo\\\n three\";\nsleep();\n").lines;
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[3], "sleep();");
    }

    #[test]
    fn tests_begin_at_cfg_test() {
        assert_eq!(code("fn a() {}\n#[cfg(test)]\nmod tests {}\n").tests_from, 1);
        assert_eq!(code("// #[cfg(test)]\nfn a() {}\n").tests_from, 2);
    }
}
