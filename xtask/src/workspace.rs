//! The workspace: its root, its members as cargo sees them, and its files as git sees them.

use std::path::{Path, PathBuf};

use crate::Failure;
use crate::run::Step;

#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
}

/// A package of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) name: String,
    /// Relative to the root, with `/` between parts.
    pub(crate) folder: String,
}

impl Workspace {
    pub(crate) fn find() -> Result<Self, Failure> {
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .ok_or_else(|| Failure::usage("run it through cargo: `cargo xtask VERB`"))?;
        let root = Path::new(&manifest).parent().map(Path::to_path_buf);
        let root = root.filter(|root| root.join("Cargo.toml").is_file());
        root.map(|root| Self { root })
            .ok_or_else(|| Failure::usage("the folder above xtask is not a workspace"))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where cargo puts what it builds: two folders above this very binary (`target/debug/xtask`).
    pub(crate) fn target_directory(&self) -> Result<PathBuf, Failure> {
        let own = std::env::current_exe()
            .map_err(|error| Failure::new(format!("cannot tell where xtask was built: {error}")))?;
        own.ancestors()
            .nth(2)
            .map(Path::to_path_buf)
            .ok_or_else(|| Failure::new("cannot tell the target directory from xtask's own path"))
    }

    pub(crate) fn members(&self) -> Result<Vec<Member>, Failure> {
        let tree = Step::cargo(self)
            .args(["tree", "--workspace", "--depth", "0", "--prefix", "none", "--all-features"])
            .output()?;
        let mut members: Vec<Member> = tree.lines().filter_map(|line| member(line, &self.root)).collect();
        members.sort_by(|a, b| a.folder.cmp(&b.folder));
        members.dedup();
        if members.is_empty() {
            return Err(Failure::new("`cargo tree` names no member of this workspace"));
        }
        Ok(members)
    }

    pub(crate) fn has_member(&self, name: &str) -> Result<bool, Failure> {
        Ok(self.members()?.iter().any(|member| member.name == name))
    }

    /// Every file that is tracked or could be: what git ignores is left out. Relative, sorted.
    pub(crate) fn files(&self) -> Result<Vec<String>, Failure> {
        let listed = Step::new(self, "git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .output()?;
        let mut files: Vec<String> = listed
            .split('\0')
            .filter(|path| !path.is_empty() && self.root.join(path).is_file())
            .map(str::to_owned)
            .collect();
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// A file's text, or none when it is not UTF-8.
    pub(crate) fn text(&self, path: &str) -> Result<Option<String>, Failure> {
        let bytes = std::fs::read(self.root.join(path))
            .map_err(|error| Failure::new(format!("cannot read {path}: {error}")))?;
        Ok(String::from_utf8(bytes).ok())
    }
}

/// Reads a line of `cargo tree --prefix none`: `name vVERSION (FOLDER)`, where only path dependencies have a folder.
pub(crate) fn member(line: &str, root: &Path) -> Option<Member> {
    let name = line.split(' ').next()?;
    let folder = line.split_once(" (/").and_then(|(_, rest)| rest.split_once(')'))?.0;
    let folder = Path::new("/").join(folder);
    let relative = folder.strip_prefix(root).ok()?;
    let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
    Some(Member { name: name.to_owned(), folder: parts.join("/") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_dependency_is_a_member_and_a_registry_one_is_not() {
        let root = Path::new("/repository");
        let found = member("webhook-core v0.1.0 (/repository/webhook-core)", root);
        let expected = Member { name: "webhook-core".into(), folder: "webhook-core".into() };
        assert_eq!(found, Some(expected));
        assert_eq!(member("serde_derive v1.0.229 (proc-macro)", root), None);
        assert_eq!(member("serde v1.0.229 (*)", root), None);
        assert_eq!(member("other v1.0.0 (/elsewhere/other)", root), None);
    }

    #[test]
    fn a_repeated_member_keeps_its_folder() {
        let found = member("webhook-server v0.1.0 (/r/examples/server) (*)", Path::new("/r"));
        assert_eq!(found.map(|member| member.folder).as_deref(), Some("examples/server"));
    }
}
