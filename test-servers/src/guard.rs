//! The shell that outlives the process that started a server by as long as it takes to clean up.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Child, Stdio};

use crate::home::Home;

/// Holds the pipe open whose end stops a server. Dropping it stops the server and waits until it is gone.
#[derive(Debug)]
pub(crate) struct Guard(Child);

impl Guard {
    /// Starts the shell. At the pipe's end it runs `stop`, a script that gets `arguments` as `$1`, `$2`, … and
    /// may be repeated, until it succeeds or five times; then it removes the home.
    pub(crate) fn start(home: &Home, stop: &str, arguments: &[&OsStr]) -> Result<Self, String> {
        let script = format!(
            "trap '' INT TERM HUP
            cat > /dev/null
            for again in 1 2 3 4 5; do
                {stop} && break
            done
            rm -rf \"$0\""
        );
        let mut command = home.command(Path::new("/bin/sh"));
        command.args(["-c", &script]).arg(&home.path).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Self).map_err(|error| format!("/bin/sh: {error}"))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It cannot fail but for a child that somebody else waited for, and then it is gone too.
        let _ = self.0.wait();
    }
}
