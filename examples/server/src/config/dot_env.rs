//! `.env`: a file of variables in the working directory, shared with whatever else is started there.
//!
//! It is read as a shell would, with two differences: a value may hold blanks without quotes, and nothing is replaced. A
//! `$` is a character, as in many a password. Where one of our own settings seems to count on a replacement
//! (`${PASSWORD}`), that is an error rather than a password nobody meant; other programs' variables are left alone.
//!
//! The file may hold secrets: an error names the line and repeats nothing of it.

use std::collections::HashMap;

/// Where a file cannot be read, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    /// From 1.
    pub(super) line: usize,
    pub(super) detail: String,
}

/// The variables of such a text. Of one that is set twice the last holds.
///
/// # Errors
/// At the first line that sets no variable, and where one that is `ours` has a `${` outside single quotes.
pub(super) fn read(text: &str, ours: impl Fn(&str) -> bool) -> Result<HashMap<String, String>, Wrong> {
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let whole = rest.len();
    let mut variables = HashMap::new();
    while !rest.is_empty() {
        let line = text[text.len() - whole..][..whole - rest.len()].matches('\n').count() + 1;
        let wrong = |detail: String| Wrong { line, detail };
        let end = rest.find('\n').map_or(rest.len(), |at| at + 1);
        let first = rest[..end].trim();
        if first.is_empty() || first.starts_with('#') {
            rest = &rest[end..];
            continue;
        }
        let Some((name, value)) =
            rest[..end].split_once('=').map(|(name, _)| (name, &rest[name.len() + 1..]))
        else {
            return Err(wrong("expected NAME=VALUE".to_owned()));
        };
        let name = name.trim();
        let name = name.strip_prefix("export ").map_or(name, str::trim_start);
        if !is_name(name) {
            return Err(wrong("expected NAME=VALUE, with a name of letters, digits and _".to_owned()));
        }
        let (value, after) = value_of(value).map_err(|detail| wrong(detail.to_owned()))?;
        if value.is_replaced && value.text.contains("${") && ours(name) {
            let detail = format!("{name} has a ${{…}}, and nothing is replaced here: write the value itself");
            return Err(wrong(detail));
        }
        variables.insert(name.to_owned(), value.text);
        rest = after;
    }
    Ok(variables)
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

struct Value {
    text: String,
    /// Whether a shell would replace `${NAME}` in it.
    is_replaced: bool,
}

/// The value that a text begins with, and what comes after its last line. A quoted one may take several lines.
fn value_of(text: &str) -> Result<(Value, &str), &'static str> {
    let start = text.trim_start_matches([' ', '\t']);
    let (value, after) = match start.chars().next() {
        Some('\'') => {
            let (quoted, after) = start[1..].split_once('\'').ok_or("a quote is not closed")?;
            (Value { text: quoted.to_owned(), is_replaced: false }, after)
        }
        Some('"') => {
            let (quoted, after) = unescaped(&start[1..]).ok_or("a quote is not closed")?;
            (Value { text: quoted, is_replaced: true }, after)
        }
        _ => {
            let end = start.find('\n').unwrap_or(start.len());
            let line = &start[..end];
            let comment = line
                .char_indices()
                .find(|(at, c)| *c == '#' && (*at == 0 || line[..*at].ends_with(char::is_whitespace)));
            let value = comment.map_or(line, |(at, _)| &line[..at]).trim();
            return Ok((Value { text: value.to_owned(), is_replaced: true }, after_line(&start[end..])));
        }
    };
    let end = after.find('\n').unwrap_or(after.len());
    let more = after[..end].trim();
    if more.is_empty() || more.starts_with('#') {
        Ok((value, after_line(&after[end..])))
    } else {
        Err("there is more behind the closing quote")
    }
}

fn after_line(text: &str) -> &str {
    text.strip_prefix('\n').unwrap_or(text)
}

/// What stands before the closing quote, and what behind it.
fn unescaped(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                same @ ('"' | '\\' | '$' | '`') => value.push(same),
                other => value.extend(['\\', other]),
            },
            _ => value.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(name: &str) -> bool {
        name.starts_with("WEBHOOK_")
    }

    #[test]
    fn values_are_read_as_in_a_shell() {
        for (line, value) in [
            ("A=b", "b"),
            ("export A=b", "b"),
            ("  A = b  ", "b"),
            ("A=b # loud", "b"),
            ("A=b#c", "b#c"),
            ("A=#c", ""),
            ("A=", ""),
            ("A=two words", "two words"),
            ("A=p$ss", "p$ss"),
            ("A='p$ss # \"1\"' # comment", "p$ss # \"1\""),
            ("A=\"p$ss \\\"1\\\" \\n\\x\"", "p$ss \"1\" \n\\x"),
            ("A=\"two\nlines\"", "two\nlines"),
            ("A='two\nlines'", "two\nlines"),
            ("A=${B}", "${B}"),
            ("A=b=c", "b=c"),
            ("A=1\nA=2", "2"),
        ] {
            for end in ["", "\n", "\r\n", "\n# more\n\nB=c\n"] {
                let read = read(&format!("\u{feff}# first\n\n{line}{end}"), ours).unwrap();
                assert_eq!(read.get("A").map(String::as_str), Some(value), "{line:?} {end:?}");
            }
        }
    }

    #[test]
    fn what_sets_nothing_is_told_by_its_line_and_not_repeated() {
        for (text, line) in [
            ("hunter2\n", 1),
            ("A=1\nB='x\ny'\nhunter2 is it\n", 4),
            ("\nA='hunter2", 2),
            ("A=\"hunter2\\\"", 1),
            ("A='1' hunter2", 1),
            ("1A=hunter2", 1),
            ("hunter2 A=1", 1),
            ("=hunter2", 1),
            ("A=1\nWEBHOOK_LOG=\"${hunter2}\"", 2),
            ("WEBHOOK_LOG=a${hunter2}", 1),
        ] {
            let wrong = read(text, ours).unwrap_err();
            assert_eq!(wrong.line, line, "{text:?}");
            assert!(!wrong.detail.contains("hunter2"), "{wrong:?}");
        }
        let literal = read("WEBHOOK_LOG='${B}'", ours).unwrap();
        assert_eq!(literal["WEBHOOK_LOG"], "${B}");
    }
}
