//! What operators run the server with names settings that exist, and its `--version` tells what it was built from.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::process::{Process, binary};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Names of variables in a text.
fn variables(text: &str) -> impl Iterator<Item = &str> {
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    text.split(move |c| !is_name(c))
        .filter(|word| word.starts_with("WEBHOOK_") || matches!(*word, "DATABASE_URL" | "REDIS_URL"))
}

#[test]
fn every_variable_of_the_packaging_is_a_setting() {
    let settings = text("docs/configuration.md");
    for (path, least) in [
        ("Dockerfile", 4),
        ("compose.yaml", 6),
        ("packaging/compose.env.example", 1),
        ("packaging/webhook-server.service", 1),
    ] {
        let packaged = text(path);
        let names: Vec<&str> = variables(&packaged).collect();
        assert!(names.len() >= least, "{path}: {names:?}");
        for name in names {
            assert!(settings.contains(&format!("| `{name}`")), "{path} sets {name}, which is no setting");
        }
    }
}

/// A container without keys would be open to whoever reaches it.
#[test]
fn the_image_refuses_to_start_without_keys_and_is_accepted_with_them() {
    let dockerfile = text("Dockerfile");
    let value = |name: &str| {
        let start = dockerfile.find(&format!("{name}=")).expect(name) + name.len() + 1;
        dockerfile[start..].split_whitespace().next().expect(name).to_owned()
    };
    for (keys, code) in [("", 2), ("0123456789abcdef", 0)] {
        let mut process = Process::spawn(
            binary(&["check-config"])
                .env("WEBHOOK_LISTEN", value("WEBHOOK_LISTEN"))
                .env("DATABASE_URL", value("DATABASE_URL"))
                .env("WEBHOOK_LOG_FORMAT", value("WEBHOOK_LOG_FORMAT"))
                .env("WEBHOOK_API_KEYS", keys),
        );
        assert_eq!(process.ended().code(), Some(code), "{:#?}", process.stderr());
    }
}

/// A copy of the example that nobody edited starts nothing: passwords that Compose asks for are empty, and the server
/// refuses the key that everybody can read.
#[test]
fn the_example_of_variables_is_refused_as_it_stands() {
    let example = text("packaging/compose.env.example");
    let value = |name: &str| {
        let line = example.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("{name}: {example}")).to_owned()
    };
    let compose = text("compose.yaml");
    for name in ["POSTGRES_PASSWORD", "REDIS_PASSWORD"] {
        assert_eq!(value(name), "");
        assert!(compose.contains(&format!("${{{name}:?")), "it is asked for when it is empty");
    }
    let mut process = Process::spawn(
        binary(&["check-config", "--database-url=memory:"])
            .env("WEBHOOK_API_KEYS", value("WEBHOOK_API_KEYS")),
    );
    assert_eq!(process.ended().code(), Some(2), "{:#?}", process.stderr());
}

#[test]
fn the_version_names_the_revision_that_was_built() {
    let mut process = Process::start(&["--version"]);
    assert!(process.ended().success());
    let lines = process.stdout();
    let version = concat!("webhook-server ", env!("CARGO_PKG_VERSION"));
    let git = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(root()).output();
    let revision = git.ok().filter(|output| output.status.success()).map(|output| output.stdout);
    // A tarball has none.
    let revision =
        revision.and_then(|text| String::from_utf8(text).ok()).filter(|_| root().join(".git").exists());
    let expected = match revision {
        Some(revision) => format!("{version} ({})", &revision[..12]),
        None => version.to_owned(),
    };
    assert_eq!(lines, [expected]);
}
