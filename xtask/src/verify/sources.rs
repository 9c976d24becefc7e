//! What a source file may be: short enough to read, finished, with tests that do not sleep and no path of one machine.

use std::path::Path;

use super::Outcome;
use super::scan::{self, Code};
use crate::Failure;
use crate::workspace::Workspace;

/// Past this a module wants to be two.
const MOST_LINES: usize = 600;

/// Says, with a reason, that a sleep in a test is meant: on the same line or the one above.
const ALLOW_SLEEP: &str = "verify: allow(sleep):";

pub(crate) fn check(workspace: &Workspace) -> Result<Outcome, Failure> {
    let mut wrong = Vec::new();
    let (mut files, mut longest) = (0_usize, (0_usize, String::new()));
    for path in workspace.files()?.into_iter().filter(|path| path.ends_with(".rs")) {
        let Some(text) = workspace.text(&path)? else {
            wrong.push(format!("{path} is not UTF-8"));
            continue;
        };
        files += 1;
        let lines = text.lines().count();
        if lines > MOST_LINES {
            wrong.push(format!("{path} has {lines} lines; {MOST_LINES} is the most"));
        }
        let code = scan::code(&text);
        wrong.extend(unfinished(&path, &code));
        wrong.extend(sleeps(&path, &code));
        longest = longest.max((lines, path));
    }
    let seen = format!("{files} Rust files, the longest {} with {} lines", longest.1, longest.0);
    Ok(Outcome::Checked { seen, wrong })
}

fn unfinished(path: &str, code: &Code) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, (line, comment)) in code.lines.iter().zip(&code.comments).enumerate() {
        let place = format!("{path}:{}", number + 1);
        for macro_name in ["todo!", "unimplemented!"] {
            if line.contains(macro_name) {
                wrong.push(format!("{place}: {macro_name} is not finished code"));
            }
        }
        if line.contains("#[ignore") {
            wrong.push(format!("{place}: #[ignore] lets a test pass without running"));
        }
        let words = || comment.split(|c: char| !c.is_alphanumeric());
        if words().any(|word| matches!(word, "TODO" | "FIXME" | "XXX")) {
            wrong.push(format!("{place}: finish it, or say in words what is left out"));
        }
        let fence = comment.split_once("```").map_or("", |(_, language)| language);
        if fence.split(',').any(|word| word.trim() == "ignore") {
            wrong.push(format!("{place}: an ignored doctest proves nothing"));
        }
    }
    wrong
}

fn sleeps(path: &str, code: &Code) -> Vec<String> {
    let tests_from = if scan::is_test_file(path) { 0 } else { code.tests_from };
    let mut wrong = Vec::new();
    let mut paused = false;
    for (number, line) in code.lines.iter().enumerate().skip(tests_from) {
        if line.contains("#[tokio::test") || line.contains("#[test]") {
            paused = false;
        }
        paused |= line.contains("start_paused = true");
        let sleeps = ["sleep(", "sleep_until(", "sleep_ms("].iter().any(|call| line.contains(call));
        if sleeps && !line.contains("fn ") && !paused && !is_allowed(&code.comments, number) {
            wrong.push(format!(
                "{path}:{}: a test sleeps; wait for what it waits for, or say `// {ALLOW_SLEEP} REASON`",
                number + 1
            ));
        }
    }
    wrong
}

fn is_allowed(comments: &[String], number: usize) -> bool {
    let here = comments.get(number);
    let above = number.checked_sub(1).and_then(|above| comments.get(above));
    [here, above]
        .into_iter()
        .flatten()
        .any(|comment| comment.split_once(ALLOW_SLEEP).is_some_and(|(_, reason)| reason.trim().len() >= 10))
}

pub(crate) fn check_paths(workspace: &Workspace) -> Result<Outcome, Failure> {
    let needles = machine_paths(workspace.root());
    let (mut files, mut wrong) = (0_usize, Vec::new());
    for path in workspace.files()? {
        let Some(text) = workspace.text(&path)? else { continue };
        files += 1;
        for (number, line) in text.lines().enumerate() {
            for needle in &needles {
                if names_path(line, needle) {
                    wrong.push(format!("{path}:{}: `{needle}` exists on one machine", number + 1));
                }
            }
        }
    }
    Ok(Outcome::Checked { seen: format!("{files} text files"), wrong })
}

/// Home directories, and where this checkout, its build and cargo's home lie.
fn machine_paths(root: &Path) -> Vec<String> {
    let mut paths: Vec<String> =
        ["home", "Users", "root"].iter().map(|folder| format!("/{folder}/")).collect();
    paths.push(root.display().to_string());
    // The checkout's parent too, unless it is a folder that every machine has.
    const COMMON: [&str; 12] =
        ["/", "/app", "/build", "/builds", "/data", "/mnt", "/opt", "/src", "/srv", "/tmp", "/usr", "/var"];
    let parent = root.parent().map(|parent| parent.display().to_string());
    paths.extend(parent.filter(|parent| !COMMON.contains(&parent.as_str())).map(|p| p + "/"));
    for variable in ["CARGO_HOME", "CARGO_TARGET_DIR"] {
        paths.extend(std::env::var(variable).ok().filter(|path| path.starts_with('/')));
    }
    paths.retain(|path| path.len() > "/src/".len());
    paths
}

/// Whether `needle` occurs as a path of its own and not within a longer one or a URL.
fn names_path(line: &str, needle: &str) -> bool {
    line.match_indices(needle).any(|(at, _)| {
        !line[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '}' | '*'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unfinished_in(text: &str) -> usize {
        unfinished("src/x.rs", &scan::code(text)).len()
    }

    fn sleeps_in(path: &str, text: &str) -> usize {
        sleeps(path, &scan::code(text)).len()
    }

    #[test]
    fn unfinished_code_is_found_and_a_string_about_it_is_not() {
        assert_eq!(unfinished_in("fn a() { todo!() }\nfn b() { unimplemented!() }\n"), 2);
        assert_eq!(unfinished_in("#[ignore = \"slow\"]\n"), 1);
        assert_eq!(unfinished_in("// TODO: later\n"), 1);
        assert_eq!(unfinished_in("/// ```ignore\n/// ```no_run,ignore\n"), 2);
        assert_eq!(unfinished_in("let a = \"TODO todo!() #[ignore]\"; // a list of what is to do\n"), 0);
    }

    #[test]
    fn a_sleep_in_a_test_needs_paused_time_or_a_reason() {
        let sleep = "#[test]\nfn a() {\n    std::thread::sleep(second);\n}\n";
        assert_eq!(sleeps_in("x/tests/a.rs", sleep), 1);
        assert_eq!(sleeps_in("x/src/a.rs", sleep), 0);
        assert_eq!(sleeps_in("x/src/a.rs", &format!("#[cfg(test)]\n{sleep}")), 1);
        let paused = "#[tokio::test(start_paused = true)]\nasync fn a() {\n    sleep(second).await;\n}\n";
        assert_eq!(sleeps_in("x/tests/a.rs", paused), 0);
        assert_eq!(sleeps_in("x/tests/a.rs", &format!("{paused}{sleep}")), 1);
    }

    #[test]
    fn a_marker_without_a_reason_allows_nothing() {
        let with = |reason: &str| format!("// verify: allow(sleep):{reason}\nsleep(second);\n");
        assert_eq!(sleeps_in("x/tests/a.rs", &with(" polls, with a deadline")), 0);
        assert_eq!(sleeps_in("x/tests/a.rs", &with("")), 1);
    }

    #[test]
    fn a_path_of_one_machine_is_found_and_a_route_is_not() {
        let home = format!("/{}/", "home");
        assert!(names_path(&format!("see {home}me/x"), &home));
        assert!(!names_path(&format!("https://example.com{home}x"), &home));
        assert!(machine_paths(Path::new("/one/two")).contains(&"/one/two".to_owned()));
    }
}
