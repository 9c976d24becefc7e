//! A target in the test's process: it notes when each request came, by the store's clock, and answers from a script.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use webhook_core::deliver::{Deliverer, Exchange, Request};
use webhook_core::model::{AttemptError, ErrorKind};
use webhook_core::testing::{ManualClock, RecordingDeliverer, Scripted};
use webhook_core::time::{Clock as _, Timestamp};

/// What becomes of a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Answered, at once unless it says otherwise.
    With(Scripted),
    /// On the wire until [`Target::release`].
    Held,
    /// No answer, after all of this time, of which none passes.
    TimedOut(Duration),
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self::With(Scripted::status(status))
    }
}

/// A request, and when it came.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub(crate) request: Request,
    pub(crate) at: Timestamp,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> &str {
        header(&self.request, name)
    }

    pub(crate) fn host(&self) -> &str {
        self.request.url.host_str().unwrap()
    }
}

pub(crate) fn header<'a>(request: &'a Request, name: &str) -> &'a str {
    let found = request.headers.iter().find(|(header, _)| header == name);
    found.map_or("", |(_, value)| value.as_str())
}

/// Which attempt of its delivery a request is.
pub(crate) fn attempt(request: &Request) -> u32 {
    header(request, "webhook-attempt").parse().unwrap()
}

type Script = dyn Fn(&Request) -> Reply + Send + Sync;

#[derive(Clone)]
pub(crate) struct Target {
    script: Arc<Script>,
    clock: ManualClock,
    got: Arc<Mutex<Vec<Got>>>,
    released: Arc<watch::Sender<Option<Scripted>>>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Target")
    }
}

impl Target {
    pub(crate) fn new(
        clock: &ManualClock,
        script: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self {
            script: Arc::new(script),
            clock: clock.clone(),
            got: Arc::default(),
            released: Arc::new(watch::Sender::new(None)),
        }
    }

    /// Everything so far, in the order of arrival.
    pub(crate) fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.got.lock().unwrap().len()
    }

    /// How many came for this host.
    pub(crate) fn count_of(&self, host: &str) -> usize {
        self.got.lock().unwrap().iter().filter(|got| got.host() == host).count()
    }

    /// Answers all that is held so, and what would be held from now on.
    pub(crate) fn release(&self, answer: Scripted) {
        self.released.send_replace(Some(answer));
    }
}

#[async_trait]
impl Deliverer for Target {
    async fn deliver(&self, request: Request) -> Exchange {
        let reply = (self.script)(&request);
        self.got.lock().unwrap().push(Got { request: request.clone(), at: self.clock.now() });
        let answer = match reply {
            Reply::With(answer) => answer,
            Reply::Held => {
                let mut released = self.released.subscribe();
                released.wait_for(Option::is_some).await.unwrap().clone().unwrap()
            }
            Reply::TimedOut(duration) => {
                let error = AttemptError::new(ErrorKind::Timeout, "no answer");
                return Exchange { duration, result: Err(error) };
            }
        };
        RecordingDeliverer::scripted(move |_| answer.clone()).deliver(request).await
    }
}
