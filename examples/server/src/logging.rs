//! Log lines: to stderr, for people or as JSON. stdout is for what a command is asked to print.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;
use tracing_subscriber::{Layer, Registry};

use crate::config::LogFormat;
use crate::terminal::use_colours;

/// Who else looks at spans, beside the log.
pub(crate) type Spans = Box<dyn Layer<Registry> + Send + Sync>;

/// Sets up the process's log.
pub(crate) fn init(format: LogFormat, filter: Targets) {
    init_with(format, filter, None);
}

/// Sets up the process's log, and passes spans on to `spans`.
pub(crate) fn init_with(format: LogFormat, filter: Targets, spans: Option<Spans>) {
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines = match format {
        LogFormat::Pretty => lines.with_ansi(use_colours(io::stderr().is_terminal())).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    // Fails only when there is a log already, which is then as good as this one.
    let _ = tracing_subscriber::registry().with(spans).with(lines.with_filter(filter)).try_init();
}
