//! Whether an answer is what a page shows of it.
//!
//! Ids and moments differ from run to run. An id that a page shows twice must be printed twice; a moment stands for any.
//! What begins like JSON is compared as JSON, with its white space as the page likes it. There `…` stands for what is
//! left out: further members of an object, further items of an array, a whole value, or a part of a text. Numbers of
//! milliseconds may be any. In other text a line `…` stands for any lines.

use std::collections::HashMap;

use serde_json::Value;

const ANY: &str = "…";

/// Which id here is which in the page.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    real: HashMap<String, String>,
    shown: HashMap<String, String>,
}

impl Ids {
    fn same(&mut self, shown: &str, real: &str) -> bool {
        let known = self.real.entry(shown.to_owned()).or_insert_with(|| real.to_owned());
        let back = self.shown.entry(real.to_owned()).or_insert_with(|| shown.to_owned());
        known == real && back == shown
    }

    /// A command of the page with the ids that are here.
    ///
    /// # Panics
    /// When it names an id that no answer has shown.
    pub(crate) fn here(&self, command: &str) -> String {
        split(command)
            .into_iter()
            .map(|(part, is_id)| match self.real.get(part) {
                Some(real) if is_id => real.clone(),
                None if is_id => panic!("`{command}` names an id that was not shown"),
                _ => part.to_owned(),
            })
            .collect()
    }

    /// Whether `printed` is what `shown` says; else what differs.
    pub(crate) fn compare(&mut self, shown: &str, printed: &str) -> Result<(), String> {
        if !shown.trim_start().starts_with(['{', '[']) {
            let lines: Vec<&str> = printed.lines().map(str::trim_end).collect();
            let shown: Vec<&str> = shown.trim_end().lines().map(str::trim_end).collect();
            let fits = self.lines(&shown, &lines);
            return if fits { Ok(()) } else { Err("the lines differ".to_owned()) };
        }
        let shown: Value =
            serde_json::from_str(&quoted(shown)).map_err(|error| format!("the page: {error}"))?;
        let printed: Value = serde_json::from_str(printed).map_err(|error| format!("no JSON: {error}"))?;
        self.value("", &shown, &printed)
    }

    fn lines(&mut self, shown: &[&str], printed: &[&str]) -> bool {
        match (shown, printed) {
            ([], []) => true,
            ([first, rest @ ..], _) if *first == ANY => {
                (0..=printed.len()).any(|skipped| self.lines(rest, &printed[skipped..]))
            }
            ([first, rest @ ..], [line, after @ ..]) => self.text(first, line) && self.lines(rest, after),
            _ => false,
        }
    }

    fn text(&mut self, shown: &str, printed: &str) -> bool {
        if let Some((start, end)) = shown.split_once(ANY) {
            return printed.len() >= start.len() + end.len()
                && printed.starts_with(start)
                && printed.ends_with(end);
        }
        let (shown, printed) = (split(shown), split(printed));
        shown.len() == printed.len()
            && shown.into_iter().zip(printed).all(|((shown, is_id), (printed, _))| {
                if is_id {
                    is_id_text(printed) && self.same(shown, printed)
                } else {
                    still(shown) == still(printed)
                }
            })
    }

    fn value(&mut self, place: &str, shown: &Value, printed: &Value) -> Result<(), String> {
        let fits = match (shown, printed) {
            (Value::String(shown), _) if shown == ANY => true,
            (Value::Object(shown), Value::Object(printed)) => {
                if let Some(more) = printed.keys().find(|name| !shown.contains_key(*name))
                    && !shown.contains_key(ANY)
                {
                    return Err(format!("{place}.{more} is not shown"));
                }
                for (name, value) in shown.iter().filter(|(name, _)| *name != ANY) {
                    let place = format!("{place}.{name}");
                    let found = printed.get(name).ok_or_else(|| format!("{place} is not printed"))?;
                    self.value(&place, value, found)?;
                }
                true
            }
            (Value::Array(shown), Value::Array(printed)) => {
                let more = shown.last().is_some_and(|last| last == ANY);
                let all = if more { &shown[..shown.len() - 1] } else { &shown[..] };
                for (index, (shown, printed)) in all.iter().zip(printed).enumerate() {
                    self.value(&format!("{place}[{index}]"), shown, printed)?;
                }
                all.len() == printed.len() || (more && all.len() < printed.len())
            }
            (Value::String(shown), Value::String(printed)) => self.text(shown, printed),
            (Value::Number(_), Value::Number(_)) if place.ends_with("_ms") => true,
            _ => shown == printed,
        };
        if fits { Ok(()) } else { Err(format!("{place}: the page shows {shown}, and {printed} is printed")) }
    }
}

/// `…` outside of texts as JSON can have it.
fn quoted(shown: &str) -> String {
    let mut quoted = String::new();
    let (mut inside, mut escaped) = (false, false);
    let mut open = Vec::new();
    for c in shown.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if inside => escaped = true,
            '"' => inside = !inside,
            '{' | '[' if !inside => open.push(c),
            '}' | ']' if !inside => drop(open.pop()),
            '…' if !inside => {
                let is_value = quoted.trim_end().ends_with(':');
                quoted.push_str(if open.last() == Some(&'{') && !is_value { "\"…\":0" } else { "\"…\"" });
                continue;
            }
            _ => {}
        }
        quoted.push(c);
    }
    quoted
}

/// A text in pieces: ids, and what is between them.
fn split(text: &str) -> Vec<(&str, bool)> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while at < text.len() {
        if text.get(at..at + 36).is_some_and(is_id_text) {
            pieces.push((&text[start..at], false));
            pieces.push((&text[at..at + 36], true));
            at += 36;
            start = at;
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    pieces.push((&text[start..], false));
    pieces
}

fn is_id_text(text: &str) -> bool {
    text.len() == 36
        && text.char_indices().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => c.is_ascii_hexdigit(),
        })
}

/// The text with its moments blanked out.
fn still(text: &str) -> String {
    let mut still = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if let Some(length) = moment(rest) {
            still.push_str("<moment>");
            rest = &rest[length..];
        } else {
            still.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    still
}

/// The length of a moment that `text` begins with: RFC 3339, or the time of day with milliseconds.
fn moment(text: &str) -> Option<usize> {
    let shape = |pattern: &str| {
        text.len() >= pattern.len()
            && pattern
                .bytes()
                .zip(text.bytes())
                .all(|(p, t)| if p == b'0' { t.is_ascii_digit() } else { p == t })
    };
    if shape("0000-00-00T00:00:00") {
        return text.find('Z').map(|end| end + 1);
    }
    shape("00:00:00.000").then_some(12)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "01a20095-70fc-7571-ba26-609e7bf90f0d";
    const B: &str = "01a20095-7117-715c-8b26-015978a3471e";

    fn fits(shown: &str, printed: &str) -> bool {
        Ids::default().compare(shown, printed).is_ok()
    }

    #[test]
    fn what_is_left_out_may_be_anything_and_nothing_else_may() {
        let printed = r#"{"a":1,"b":[1,2,3],"c":{"d":"whsec_abc"}}"#;
        for shown in [
            r#"{"a": 1, "b": [1, 2, 3], "c": {"d": "whsec_abc"}}"#,
            r#"{"a": 1, …}"#,
            r#"{"b": [1, …], …}"#,
            r#"{"b": …, …}"#,
            r#"{"c": {"d": "whsec_…"}, …}"#,
            "{…}",
        ] {
            assert!(fits(shown, printed), "{shown}");
        }
        for shown in
            [r#"{"a": 1}"#, r#"{"a": 2, …}"#, r#"{"b": [1, 2], …}"#, r#"{"x": 1, …}"#, r#"{"b": [2, …], …}"#]
        {
            assert!(!fits(shown, printed), "{shown}");
        }
        assert!(fits("…\n200", "a\nb\n200") && fits("200", "200\n") && !fits("200", "201"));
    }

    #[test]
    fn an_id_that_is_shown_twice_is_printed_twice() {
        let mut ids = Ids::default();
        assert_eq!(ids.compare(&format!("{{\"id\": \"{A}\"}}"), &format!("{{\"id\":\"{B}\"}}")), Ok(()));
        assert!(ids.compare(&format!("{{\"id\": \"{A}\"}}"), &format!("{{\"id\":\"{A}\"}}")).is_err());
        assert_eq!(ids.here(&format!("curl $API/{A}")), format!("curl $API/{B}"));
        assert!(ids.compare(&format!("x {A}"), &format!("x {B}")).is_ok());
        let moments = (r#"{"at": "2026-11-22T00:08:43.5Z"}"#, r#"{"at":"2027-01-01T01:02:03.456789Z"}"#);
        assert!(fits(moments.0, moments.1) && !fits(moments.0, r#"{"at":null}"#));
    }
}
