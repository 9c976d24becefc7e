//! Markdown links within the repository: the file exists, and so does the heading.
//!
//! Only what is in the repository is checked; addresses elsewhere change without us. A link must stay within the
//! repository: `../..` out of it works on one machine alone.

use std::collections::BTreeSet;

use super::Outcome;
use crate::Failure;
use crate::workspace::Workspace;

pub(crate) fn check(workspace: &Workspace) -> Result<Outcome, Failure> {
    let files: BTreeSet<String> = workspace.files()?.into_iter().collect();
    let (mut seen, mut wrong) = (0_usize, Vec::new());
    for path in files.iter().filter(|path| path.ends_with(".md")) {
        let Some(text) = workspace.text(path)? else { continue };
        for Link { line, target } in links(&text) {
            seen += 1;
            let place = format!("{path}:{line}");
            let (to, heading) = target.split_once('#').unwrap_or((target.as_str(), ""));
            let resolved = if to.is_empty() { Some(path.clone()) } else { resolve(path, to) };
            let Some(resolved) = resolved else {
                wrong.push(format!("{place}: `{target}` leads out of the repository"));
                continue;
            };
            let folder = format!("{resolved}/");
            let exists = resolved.is_empty()
                || files.contains(&resolved)
                || files.iter().any(|file| file.starts_with(&folder));
            if !exists {
                wrong.push(format!("{place}: `{target}` does not exist"));
            } else if !heading.is_empty() && resolved.ends_with(".md") {
                let text = workspace.text(&resolved)?.unwrap_or_default();
                if !headings(&text).contains(heading) {
                    wrong.push(format!("{place}: {resolved} has no heading `#{heading}`"));
                }
            }
        }
    }
    Ok(Outcome::Checked { seen: format!("{seen} links in Markdown files"), wrong })
}

#[derive(Debug, PartialEq, Eq)]
struct Link {
    line: usize,
    target: String,
}

/// The links of a page that lead into the repository, inline and by reference.
fn links(text: &str) -> Vec<Link> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let mut targets: Vec<&str> =
            line.match_indices("](").filter_map(|(at, _)| line[at + 2..].split(')').next()).collect();
        let reference = line.trim_start().strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        targets.extend(reference.map(|(_, target)| target));
        for target in targets {
            let target = target.trim().trim_start_matches('<');
            let target = target.split(['>', ' ', '\t']).next().unwrap_or("");
            let elsewhere = target.contains("://") || target.starts_with("mailto:") || target.is_empty();
            if !elsewhere {
                found.push(Link { line: number, target: target.to_owned() });
            }
        }
    }
    found
}

/// The lines outside fences, with inline code blank; numbers from 1.
fn prose(text: &str) -> Vec<(usize, String)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let start = line.trim_start();
        if start.starts_with("```") || start.starts_with("~~~") {
            fenced = !fenced;
        } else if !fenced && !line.starts_with("    ") {
            let parts = line.split('`').enumerate();
            let kept: Vec<&str> = parts.map(|(at, part)| if at % 2 == 0 { part } else { "" }).collect();
            lines.push((number + 1, kept.join("`")));
        }
    }
    lines
}

/// The anchors that GitHub makes of a page's headings.
fn headings(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        let title = line.trim_start_matches('#');
        let is_heading = !fenced && line.starts_with('#') && title.starts_with(' ');
        if !is_heading {
            continue;
        }
        let slug: String = title
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let again = (1..).map(|n| format!("{slug}-{n}"));
        let free = std::iter::once(slug.clone()).chain(again).find(|slug| !found.contains(slug));
        found.extend(free);
    }
    found
}

/// A link's path from the root of the repository; none when it leaves it.
fn resolve(page: &str, to: &str) -> Option<String> {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    if to.starts_with('/') {
        parts.clear();
    }
    for part in to.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_outside_code_alone() {
        let text =
            "[a](docs/a.md) `[b](b.md)` [c](https://x.y/c)\n```\n[d](d.md)\n```\n[e]: <e.md> \"title\"\n";
        let found: Vec<String> = links(text).into_iter().map(|link| link.target).collect();
        assert_eq!(found, ["docs/a.md", "e.md"]);
    }

    #[test]
    fn a_path_is_resolved_from_the_page_and_never_above_the_root() {
        assert_eq!(resolve("docs/a/b.md", "../c.md").as_deref(), Some("docs/c.md"));
        assert_eq!(resolve("docs/a.md", "/README.md").as_deref(), Some("README.md"));
        assert_eq!(resolve("README.md", "../x"), None);
    }

    #[test]
    fn headings_become_the_anchors_of_github() {
        let found =
            headings("# What it's for\n## A `code` word, twice\n## A `code` word, twice\n```\n# no\n```\n");
        let expected = ["what-its-for", "a-code-word-twice", "a-code-word-twice-1"];
        assert_eq!(found, expected.map(str::to_owned).into());
    }
}
