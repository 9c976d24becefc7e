//! `.ci/run` runs what the README tells a newcomer to run: the test command that is documented is the one that is kept.

use super::Outcome;
use crate::Failure;
use crate::workspace::Workspace;

pub(crate) fn check(workspace: &Workspace) -> Result<Outcome, Failure> {
    let read = |path: &str| -> Result<String, Failure> {
        if !workspace.root().join(path).is_file() {
            return Err(Failure::new(format!("{path} does not exist")));
        }
        Ok(workspace.text(path)?.unwrap_or_default())
    };
    let readme = read("README.md")?;
    let gate = read(".ci/run")?;
    let Some(command) = test_command(&readme) else {
        let finding = "README.md names no test command (`cargo xtask test` on a line of code)";
        return Ok(Outcome::Checked { seen: String::new(), wrong: vec![finding.to_owned()] });
    };
    let mut wrong = Vec::new();
    if !runs(&gate, &command) {
        wrong.push(format!(".ci/run does not run `{command}`, which README.md tells people to run"));
    }
    if !gate.lines().any(|line| line.trim() == "set -euo pipefail") {
        wrong.push(".ci/run goes on after a failure: `set -euo pipefail` is missing".to_owned());
    }
    Ok(Outcome::Checked { seen: format!("`{command}`"), wrong })
}

/// The first cargo command that runs tests, in a block of code or between backticks.
fn test_command(readme: &str) -> Option<String> {
    let candidates = readme.lines().flat_map(|line| line.split('`')).map(|part| {
        let part = part.trim().trim_start_matches("$ ");
        part.split(" #").next().unwrap_or(part).trim()
    });
    let mut commands = candidates.filter(|part| {
        let words: Vec<&str> = part.split_whitespace().take(3).collect();
        matches!(words[..], ["cargo", "test", ..] | ["cargo", "xtask", "test"])
    });
    commands.next().map(str::to_owned)
}

fn runs(gate: &str, command: &str) -> bool {
    gate.lines().any(|line| line.split(" #").next().unwrap_or(line).trim() == command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_test_command_of_the_readme_is_found() {
        let readme = "Run `cargo run`.\n\n    cargo xtask test     # all tests\n\n`cargo test -p x`\n";
        assert_eq!(test_command(readme).as_deref(), Some("cargo xtask test"));
        assert_eq!(test_command("see the cargo test book"), None);
    }

    #[test]
    fn a_gate_that_only_mentions_the_command_does_not_run_it() {
        assert!(runs("set -e\ncargo xtask test\n", "cargo xtask test"));
        assert!(!runs("# cargo xtask test\ncargo xtask test-online\n", "cargo xtask test"));
    }
}
