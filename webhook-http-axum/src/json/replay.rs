//! Reopening many deliveries: the answer to the request, and how far it is.

use serde::Serialize;
use webhook_core::id::ReplayId;
use webhook_core::store::{Matched, Replay};

/// The answer to a bulk retry. A dry run has no id, for nothing was started.
#[derive(Debug, Serialize)]
pub(crate) struct ReplayJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<ReplayId>,
    matched: u64,
    more: bool,
    done: u64,
}

impl ReplayJson {
    pub(crate) fn started(replay: &Replay) -> Self {
        let Matched { matched, more } = replay.matched;
        Self { id: Some(replay.id), matched, more, done: replay.done }
    }

    pub(crate) fn dry(counted: Matched) -> Self {
        Self { id: None, matched: counted.matched, more: counted.more, done: 0 }
    }
}

/// A replay as it is read.
#[derive(Debug, Serialize)]
pub(crate) struct ReplayProgressJson {
    id: ReplayId,
    status: &'static str,
    matched: u64,
    more: bool,
    done: u64,
}

impl ReplayProgressJson {
    pub(crate) fn of(replay: &Replay) -> Self {
        let Matched { matched, more } = replay.matched;
        let status = if replay.finished { "done" } else { "running" };
        Self { id: replay.id, status, matched, more, done: replay.done }
    }
}
