//! Tells the server which revision it is built from: `WEBHOOK_SERVER_VERSION` is `VERSION (REVISION)`, or `VERSION`
//! alone where nobody knows.
//!
//! The revision is `SOURCE_REVISION` when that is set (a container's build has no git), else what git says of this
//! checkout. A tarball that lies within another repository is not that repository's revision. The script runs again
//! when the commit that is checked out changes, and not otherwise: it names the two or three files that hold it.

#![allow(clippy::print_stdout, reason = "what a build script prints is for cargo")]

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SOURCE_REVISION");
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let given = std::env::var("SOURCE_REVISION").ok().filter(|revision| is_revision(revision));
    let version = match given.or_else(of_checkout) {
        Some(revision) => format!("{version} ({})", &revision[..revision.len().min(12)]),
        None => version,
    };
    println!("cargo::rustc-env=WEBHOOK_SERVER_VERSION={version}");
}

/// What git says, when this package lies in a checkout of its own repository.
fn of_checkout() -> Option<String> {
    let package = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR")?).canonicalize().ok()?;
    let top = PathBuf::from(git(&["rev-parse", "--show-toplevel"])?).canonicalize().ok()?;
    if package != top.join("examples").join("server") {
        return None;
    }
    watch(&git(&["rev-parse", "--git-path", "HEAD"])?);
    // Not for a detached head, whose commit is in HEAD itself.
    if let Some(branch) = git(&["symbolic-ref", "--quiet", "HEAD"]) {
        let file = git(&["rev-parse", "--git-path", &branch])?;
        if Path::new(&file).exists() {
            watch(&file);
        } else {
            // The branch is packed: its next commit makes the file anew, which changes the folder.
            watch(&git(&["rev-parse", "--git-path", "packed-refs"])?);
            if let Some(folder) = Path::new(&file).parent().and_then(Path::to_str) {
                watch(folder);
            }
        }
    }
    git(&["rev-parse", "HEAD"]).filter(|revision| is_revision(revision))
}

/// Only what exists: a file that is missing would make cargo run this every time.
fn watch(path: &str) {
    if Path::new(path).exists() {
        println!("cargo::rerun-if-changed={path}");
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn is_revision(text: &str) -> bool {
    text.len() >= 7 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
