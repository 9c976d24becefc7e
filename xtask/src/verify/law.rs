//! The law of dependencies: core depends on no backend, adapters on core alone, the HTTP crate sees no backend, and
//! only what is at the end of the chain (server, examples, bench) names all. Plus what may be in the tree at all.
//!
//! Checked on what cargo resolves (`cargo tree`, normal dependencies, all features, every platform), not on what the
//! manifests say, since a backend can also come in through a dependency. Development dependencies are free: tests may
//! put any crates together. A member without a class here is a finding: a new crate states what it may depend on.

use super::Outcome;
use crate::Failure;
use crate::run::Step;
use crate::workspace::{Member, Workspace};

/// What must not be in a tree, by the beginning of the crate's name.
const SQL: &[&str] = &["sqlx", "rusqlite", "libsqlite3-sys", "tokio-postgres"];
const REDIS: &[&str] = &["fred", "redis"];
const HTTP_CLIENT: &[&str] = &["reqwest", "hyper-rustls", "ureq"];
const HTTP: &[&str] = &["hyper", "axum", "tower-http"];

/// One TLS stack: rustls on ring. See `deny.toml`, which says the same to cargo-deny.
const BANNED: &[&str] = &["openssl", "openssl-sys", "native-tls", "aws-lc-rs", "aws-lc-sys"];

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What a member may depend on.
#[derive(Debug)]
struct Class {
    /// Other members allowed in its tree; none: all of them.
    members: Option<&'static [&'static str]>,
    foreign: Vec<&'static [&'static str]>,
}

fn class(member: &Member) -> Option<Class> {
    const CORE: &[&str] = &["webhook-core"];
    const DIALLING: &[&str] = &["webhook-core", "webhook-dial"];
    const TESTING: &[&str] = &["webhook-core", "webhook-conformance"];
    let class = |members, foreign: &[&'static [&'static str]]| {
        Some(Class { members: Some(members), foreign: foreign.to_vec() })
    };
    let name = member.name.as_str();
    match name {
        "webhook-core" => class(&[], &[SQL, REDIS, HTTP_CLIENT, HTTP]),
        "webhook-conformance" => class(CORE, &[SQL, REDIS, HTTP_CLIENT, HTTP]),
        "webhook-sim" => class(TESTING, &[SQL, REDIS, HTTP_CLIENT, HTTP]),
        "webhook-http-axum" => class(CORE, &[SQL, REDIS, HTTP_CLIENT]),
        // The load generator and the online check speak HTTP to the server and know none of its crates.
        "xtask" | "webhook-bench" | "webhook-online" => class(&["test-servers"], &[SQL, REDIS]),
        "test-servers" => class(&[], &[SQL, REDIS, HTTP_CLIENT, HTTP]),
        _ if name.starts_with("webhook-store-") => class(CORE, &[REDIS, HTTP_CLIENT, HTTP]),
        _ if name.starts_with("webhook-queue-") => class(CORE, &[SQL, HTTP_CLIENT, HTTP]),
        // What deliverers share; it knows no HTTP client.
        "webhook-dial" => class(CORE, &[SQL, REDIS, HTTP_CLIENT, HTTP]),
        "webhook-deliver-hyper" => class(DIALLING, &[SQL, REDIS, HTTP_CLIENT, &["axum"]]),
        _ if name.starts_with("webhook-deliver-") => class(DIALLING, &[SQL, REDIS, &["axum"]]),
        // It shows the crates together, in tests of documentation alone.
        "webhook-docs" => class(&[], &[SQL, REDIS]),
        _ if member.folder.starts_with("examples/") => Some(Class { members: None, foreign: Vec::new() }),
        _ => None,
    }
}

pub(crate) fn check(workspace: &Workspace) -> Result<Outcome, Failure> {
    let members = workspace.members()?;
    let mut wrong = Vec::new();
    for member in &members {
        let Some(class) = class(member) else {
            wrong.push(format!(
                "{} ({}) has no class: say in xtask/src/verify/law.rs what it may depend on",
                member.name, member.folder
            ));
            continue;
        };
        let tree = tree_of(workspace, member)?;
        wrong.extend(violations(member, &class, &members, &tree));
    }
    let whole = tree_of_all(workspace)?;
    for banned in BANNED {
        if whole.iter().any(|name| name == banned) {
            wrong.push(format!("{banned} is in the tree; `cargo tree -i {banned} --all-features` says why"));
        }
    }
    let lock = workspace.text("Cargo.lock")?.unwrap_or_default();
    wrong.extend(foreign_sources(&lock));
    let seen = format!("{} members, {} crates", members.len(), whole.len());
    Ok(Outcome::Checked { seen, wrong })
}

fn violations(member: &Member, class: &Class, members: &[Member], tree: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    for name in tree {
        if *name == member.name {
            continue;
        }
        let is_member = members.iter().any(|other| other.name == *name);
        if is_member && class.members.is_some_and(|allowed| !allowed.contains(&name.as_str())) {
            wrong.push(format!("{} must not depend on {name}", member.name));
        }
        let foreign = class.foreign.iter().flat_map(|group| group.iter());
        if !is_member && foreign.into_iter().any(|prefix| is_or_extends(name, prefix)) {
            wrong.push(format!(
                "{name} must not be in the tree of {0}; `cargo tree -p {0} -i {name} -e normal` says why",
                member.name
            ));
        }
    }
    wrong
}

/// `sqlx-core` and `sqlx` match `sqlx`; `sqlxyz` does not.
fn is_or_extends(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
}

fn tree_of(workspace: &Workspace, member: &Member) -> Result<Vec<String>, Failure> {
    names(Step::cargo(workspace).args(["tree", "--package", &member.name, "--edges", "normal"]))
}

fn tree_of_all(workspace: &Workspace) -> Result<Vec<String>, Failure> {
    names(Step::cargo(workspace).args(["tree", "--workspace", "--edges", "normal,build,dev"]))
}

fn names(tree: Step) -> Result<Vec<String>, Failure> {
    let printed =
        tree.args(["--all-features", "--target", "all", "--prefix", "none", "--format", "{p}"]).output()?;
    let mut names: Vec<String> = printed
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    Ok(names)
}

fn foreign_sources(lock: &str) -> Vec<String> {
    lock.lines()
        .filter_map(|line| line.strip_prefix("source = \"")?.strip_suffix('"'))
        .filter(|source| *source != CRATES_IO)
        .map(|source| format!("Cargo.lock takes a crate from {source}; crates.io alone is allowed"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str) -> Member {
        Member { name: name.to_owned(), folder: name.to_owned() }
    }

    fn found(name: &str, tree: &[&str]) -> Vec<String> {
        let members = ["webhook-core", "webhook-store-sqlite", "webhook-deliver-reqwest"].map(member);
        let tree: Vec<String> = tree.iter().map(|&name| name.to_owned()).collect();
        let member = member(name);
        violations(&member, &class(&member).expect("it has a class"), &members, &tree)
    }

    #[test]
    fn core_with_a_backend_in_its_tree_is_found() {
        assert_eq!(found("webhook-core", &["webhook-core", "serde", "sqlx-core"]).len(), 1);
        assert_eq!(found("webhook-core", &["hyper-util", "reqwest"]).len(), 2);
        assert_eq!(found("webhook-core", &["serde", "http", "tokio"]), Vec::<String>::new());
    }

    #[test]
    fn an_adapter_that_depends_on_another_is_found() {
        let tree = ["webhook-core", "sqlx", "webhook-deliver-reqwest"];
        let wrong = found("webhook-store-sqlite", &tree);
        assert_eq!(wrong, ["webhook-store-sqlite must not depend on webhook-deliver-reqwest"]);
    }

    #[test]
    fn a_deliverer_may_have_what_deliverers_share_and_no_other_deliverer() {
        let found = |tree: &[&str]| {
            let members =
                ["webhook-core", "webhook-dial", "webhook-deliver-hyper", "webhook-deliver-reqwest"];
            let tree: Vec<String> = tree.iter().map(|&name| name.to_owned()).collect();
            let member = member("webhook-deliver-hyper");
            violations(&member, &class(&member).expect("it has a class"), &members.map(self::member), &tree)
                .len()
        };
        assert_eq!(found(&["webhook-core", "webhook-dial", "hyper", "hyper-util"]), 0);
        assert_eq!(found(&["webhook-deliver-reqwest", "reqwest"]), 2);
    }

    #[test]
    fn the_http_crate_must_not_see_a_store() {
        assert_eq!(found("webhook-http-axum", &["axum", "webhook-store-sqlite"]).len(), 1);
    }

    #[test]
    fn a_crate_that_nobody_classed_is_found() {
        assert!(class(&member("webhook-surprise")).is_none());
    }

    #[test]
    fn a_crate_from_elsewhere_than_crates_io_is_found() {
        let lock = "source = \"git+https://example.com/x#1\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"\n";
        assert_eq!(foreign_sources(lock).len(), 1);
    }
}
