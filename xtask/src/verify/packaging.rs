//! What operators are given to run the server with is what the tools that read it accept. That the variables in it are
//! settings of the server is a test of the server's (`examples/server/tests/server/packaging.rs`).

use super::Outcome;
use crate::Failure;
use crate::run::Step;
use crate::workspace::Workspace;

const UNIT: &str = "packaging/webhook-server.service";
const COMPOSE: &str = "compose.yaml";
/// Says what an operator has to set; as it stands, nothing starts with it.
const VARIABLES: &str = "packaging/compose.env.example";
/// In place of what is to be set. The environment wins over the file.
const VALUES: [(&str, &str); 3] = [
    ("POSTGRES_PASSWORD", "checked0by0nobody"),
    ("REDIS_PASSWORD", "checked0by0nobody"),
    ("WEBHOOK_API_KEYS", "checked-by-nobody"),
];

/// Of ten, in tenths, as `systemd-analyze security` counts what a service could do: 14 with systemd 252.
const MOST_EXPOSED: &str = "20";

pub(crate) fn unit(workspace: &Workspace) -> Result<Outcome, Failure> {
    let analyze = || Step::new(workspace, "systemd-analyze");
    if !analyze().args(["--version"]).succeeds() {
        return Ok(Outcome::Skipped { reason: "systemd-analyze is not installed".to_owned() });
    }
    // The program is not at its place on this machine, and a unit whose program is missing is refused.
    let unit = workspace.text(UNIT)?.unwrap_or_default();
    let present = with_program(&unit, "/bin/true");
    let folder = workspace.target_directory()?.join("verify");
    let copy = folder.join("webhook-server.service");
    std::fs::create_dir_all(&folder)
        .and_then(|()| std::fs::write(&copy, present))
        .map_err(|error| Failure::new(format!("cannot write {}: {error}", copy.display())))?;
    let steps = [
        analyze().args(["verify", "--man=no"]).args([&copy]),
        analyze()
            .args(["security", "--offline=true", "--no-pager", "--threshold", MOST_EXPOSED])
            .args([&copy]),
    ];
    let wrong = steps.into_iter().filter_map(|step| step.output().err()).map(|failure| failure.message);
    Ok(Outcome::Checked { seen: UNIT.to_owned(), wrong: wrong.collect() })
}

pub(crate) fn compose(workspace: &Workspace) -> Result<Outcome, Failure> {
    if !Step::new(workspace, "docker").args(["compose", "version"]).succeeds() {
        return Ok(Outcome::Skipped { reason: "docker compose is not installed".to_owned() });
    }
    let step = Step::new(workspace, "docker").args([
        "compose",
        "--env-file",
        VARIABLES,
        "--file",
        COMPOSE,
        "config",
        "--quiet",
    ]);
    let step = VALUES.into_iter().fold(step, |step, (name, value)| step.env(name, value));
    let wrong = step.output().err().map(|failure| failure.message);
    Ok(Outcome::Checked { seen: COMPOSE.to_owned(), wrong: wrong.into_iter().collect() })
}

/// The unit with another program in place of the one it starts.
fn with_program(unit: &str, program: &str) -> String {
    let line = |line: &str| {
        if line.starts_with("ExecStart=") { format!("ExecStart={program}\n") } else { format!("{line}\n") }
    };
    unit.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_program_is_replaced() {
        let unit = "[Service]\nType=exec\nExecStart=/usr/local/bin/x serve\nRestart=no\n";
        let expected = "[Service]\nType=exec\nExecStart=/bin/true\nRestart=no\n";
        assert_eq!(with_program(unit, "/bin/true"), expected);
    }
}
