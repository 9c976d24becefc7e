//! Being told to stop: the first SIGINT or SIGTERM asks, a second one does not wait.

use std::io;

/// Waits for the first signal and returns; from then on, another one ends the process at once, with the exit code
/// that a shell gives to a process that died of it.
pub(crate) async fn stop_requested(signals: &mut Signals) {
    signals.next().await;
    if let Ok(mut more) = Signals::new() {
        tokio::spawn(async move {
            let code = more.next().await;
            std::process::exit(code);
        });
    }
}

/// The signals that ask to stop, caught from the moment this is made.
#[derive(Debug)]
pub(crate) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// # Errors
    /// When the system refuses the handlers.
    pub(crate) fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The next signal, as an exit code.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    /// # Errors
    /// None here.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) -> i32 {
        // Without a console to hear from there is no such signal.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        130
    }
}
