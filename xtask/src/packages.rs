//! Servers that the tests need and that are not installed: Debian's packages, where they may be installed.
//!
//! Only root, and only where there is apt. The package's own service is kept from starting, by the way that Debian
//! gives to images (`policy-rc.d`): nothing of this repository runs outside its tests. Elsewhere a sentence says what
//! to install.

use crate::Failure;
use crate::run::Step;
use crate::workspace::Workspace;

/// Installs `$1` with its services forbidden to start. The policy goes whatever happens; one that is there already is
/// left as it is, since images bring one that says the same.
const INSTALL: &str = "
    set -e
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap 'rm -f $policy' EXIT
        trap 'exit 130' INT TERM HUP
        printf '#!/bin/sh\\nexit 101\\n' > $policy
        chmod 755 $policy
    fi
    apt-get update -q
    apt-get install -q -y --no-install-recommends \"$1\"";

/// Sees to it that a server is installed.
///
/// # Errors
/// When it is not and cannot be: what a person has to do.
pub(crate) fn provide(
    workspace: &Workspace,
    what: &str,
    package: &str,
    is_there: impl Fn() -> bool,
) -> Result<(), Failure> {
    if is_there() {
        return Ok(());
    }
    let by_hand = format!(
        "{what} is not installed and the tests need it: `apt-get install {package}` on Debian and Ubuntu, `brew \
         install {package}` on macOS"
    );
    if !may_install(workspace) {
        return Err(Failure::new(by_hand));
    }
    println!("{what} is not installed: installing the package {package}");
    Step::new(workspace, "sh")
        .env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-c", INSTALL, "install", package])
        .run()?;
    if is_there() { Ok(()) } else { Err(Failure::new(format!("{by_hand}; the package did not bring it"))) }
}

fn may_install(workspace: &Workspace) -> bool {
    let is_root = Step::new(workspace, "id").args(["-u"]).output().is_ok_and(|id| id.trim() == "0");
    is_root && Step::new(workspace, "apt-get").args(["--version"]).succeeds()
}
