//! The pages that say what is shown name tests that exist: `path/of/file.rs::name_of_the_test`, in backticks.
//!
//! A test that is renamed or dropped must not live on in docs/guarantees.md, docs/features.md and docs/failure-modes.md.
//! The file must have a test function of that name; a case of the conformance suites counts when their list runs it. A
//! page without any such name is a finding too, since the rule would then look at nothing.

use super::Outcome;
use super::scan;
use crate::Failure;
use crate::workspace::Workspace;

const PAGES: [&str; 3] = ["docs/guarantees.md", "docs/features.md", "docs/failure-modes.md"];

/// The suites' cases are functions without an attribute; the macros make tests of those that are listed.
const SUITES: &str = "webhook-conformance/src/";
const LIST: &str = "webhook-conformance/src/list.rs";

pub(crate) fn check(workspace: &Workspace) -> Result<Outcome, Failure> {
    let files = workspace.files()?;
    let list = if files.iter().any(|file| file == LIST) { workspace.text(LIST)? } else { None };
    let list = list.unwrap_or_default();
    let (mut seen, mut wrong) = (0_usize, Vec::new());
    for page in PAGES {
        let text = if files.iter().any(|file| file == page) { workspace.text(page)? } else { None };
        let cited = text.as_deref().map(citations).unwrap_or_default();
        if cited.is_empty() {
            wrong.push(format!("{page} names no test"));
        }
        seen += cited.len();
        for Citation { line, path, name } in cited {
            let text = if files.contains(&path) { workspace.text(&path)? } else { None };
            let problem = match text {
                None => Some(format!("{path} does not exist")),
                Some(text) => problem(&path, &text, &name, &list),
            };
            wrong.extend(problem.map(|problem| format!("{page}:{line}: {problem}")));
        }
    }
    Ok(Outcome::Checked { seen: format!("{seen} tests named by {} pages", PAGES.len()), wrong })
}

#[derive(Debug, PartialEq, Eq)]
struct Citation {
    /// From 1.
    line: usize,
    path: String,
    name: String,
}

/// What stands in backticks as `FILE.rs::NAME`.
fn citations(page: &str) -> Vec<Citation> {
    let mut found = Vec::new();
    for (number, line) in page.lines().enumerate() {
        for code in line.split('`').skip(1).step_by(2) {
            if let Some((path, name)) = code.split_once(".rs::") {
                let (path, name) = (format!("{path}.rs"), name.to_owned());
                found.push(Citation { line: number + 1, path, name });
            }
        }
    }
    found
}

fn problem(path: &str, text: &str, name: &str, list: &str) -> Option<String> {
    let code = scan::code(text).lines;
    let Some(at) = code.iter().position(|line| declares(line, name)) else {
        return Some(format!("{path} has no function `{name}`"));
    };
    if path.starts_with(SUITES) {
        let listed = scan::code(list).lines.iter().any(|line| words(line).any(|word| word == name));
        return (!listed).then(|| format!("`{name}` of {path} is not in {LIST}, so nothing runs it"));
    }
    // Attributes stand right above, with comments (blank here) between them at most.
    let above = code[..at].iter().rev().map(|line| line.trim());
    let mut attributes =
        above.take_while(|line| line.is_empty() || line.starts_with("#[") || line.ends_with(")]"));
    let is_test = attributes.any(|line| line.starts_with("#[") && words(line).any(|word| word == "test"));
    (!is_test).then(|| format!("`{name}` of {path} is no test"))
}

fn declares(line: &str, name: &str) -> bool {
    let mut words = words(line).skip_while(|word| *word != "fn");
    words.next().is_some() && words.next() == Some(name)
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str, name: &str) -> bool {
        problem(path, text, name, "contract: [ a_case ]").is_none()
    }

    #[test]
    fn names_in_backticks_are_read_and_paths_alone_are_not() {
        let page = "- `a/b.rs::it_holds` and `a/c.rs`\n\n| x | `d.rs::e`, `f.rs::g` |\nplain h.rs::i\n";
        let found: Vec<_> = citations(page).into_iter().map(|c| (c.line, c.path, c.name)).collect();
        let expected = [(1, "a/b.rs", "it_holds"), (3, "d.rs", "e"), (3, "f.rs", "g")];
        assert_eq!(found, expected.map(|(line, path, name)| (line, path.to_owned(), name.to_owned())));
    }

    #[test]
    fn a_test_is_found_below_its_attributes_and_comments() {
        let text = "/// Says.\n#[tokio::test(flavor = \"multi_thread\")]\n// Why.\nasync fn it_holds() {}\n";
        assert!(found("a.rs", text, "it_holds"));
        assert!(found("a.rs", "proptest! {\n  #[test]\n  fn it_holds(x in 0..9) {}\n}\n", "it_holds"));
    }

    #[test]
    fn what_is_missing_no_test_or_only_a_comment_is_no_test() {
        assert!(!found("a.rs", "#[test]\nfn it_holds_too() {}\n", "it_holds"));
        assert!(!found("a.rs", "#[test]\nfn other() {}\nfn it_holds() {}\n", "it_holds"));
        assert!(!found("a.rs", "#[test]\n// fn it_holds() {}\nfn other() {}\n", "it_holds"));
    }

    #[test]
    fn a_case_of_the_suites_must_be_listed() {
        let text = "pub async fn a_case<F: QueueFixture>(f: &F) {}\npub async fn forgotten<F>(f: &F) {}\n";
        assert!(found("webhook-conformance/src/queue/x.rs", text, "a_case"));
        assert!(!found("webhook-conformance/src/queue/x.rs", text, "forgotten"));
    }
}
