//! One exchange, from the request to what came of it.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{CONTENT_LENGTH, HeaderValue};
use reqwest::{Body, Client, Method};
use tokio::time::Instant;
use webhook_core::deliver::{Deliverer, Exchange, Request};
use webhook_core::model::AttemptError;
use webhook_dial::{Partial, Resolver, failure, header_map, outcome};

use crate::answer::read_body;
use crate::builder::Builder;
use crate::classify::classify;

/// Sends webhooks with one shared [`reqwest::Client`]. See the [crate] for what it promises.
///
/// Make one for the whole process: it keeps connections, and its bound on name lookups is its own. Cloning is
/// cheap and shares both.
#[derive(Clone)]
pub struct ReqwestDeliverer {
    client: Client,
    resolver: Resolver,
    connect_timeout: Duration,
}

impl ReqwestDeliverer {
    /// Settings, all with defaults.
    ///
    /// ```
    /// use webhook_core::target::TargetRules;
    /// use webhook_deliver_reqwest::ReqwestDeliverer;
    ///
    /// let rules = TargetRules { https_only: true, ..TargetRules::default() };
    /// let deliverer = ReqwestDeliverer::builder().target_rules(rules).build()?;
    /// # Ok::<(), webhook_deliver_reqwest::BuildError>(())
    /// ```
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn new(client: Client, resolver: Resolver, connect_timeout: Duration) -> Self {
        Self { client, resolver, connect_timeout }
    }

    /// Checks the target, which for an IP literal is the only check, and makes the client's request.
    fn prepare(&self, request: Request) -> Result<reqwest::Request, AttemptError> {
        self.resolver.rules().check(&request.url).map_err(|error| failure::refused(&error))?;
        let mut http = reqwest::Request::new(Method::POST, request.url);
        *http.headers_mut() = header_map(request.headers, 2)?;
        if request.body.is_empty() {
            // The client leaves it out, but a method that can have a body should tell its length (RFC 9110, 8.6).
            http.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        *http.body_mut() = Some(Body::from(request.body));
        Ok(http)
    }

    /// Leaves in `partial` what came, so that it survives when this future is dropped at the deadline.
    async fn exchange(
        &self,
        http: reqwest::Request,
        partial: &mut Option<Partial>,
    ) -> Result<(), AttemptError> {
        let https = http.url().scheme() == "https";
        let response =
            self.client.execute(http).await.map_err(|error| classify(&error, https, self.connect_timeout))?;
        let partial = partial.insert(Partial::new(response.status().as_u16(), response.headers())?);
        read_body(response, partial).await;
        Ok(())
    }
}

#[async_trait]
impl Deliverer for ReqwestDeliverer {
    async fn deliver(&self, request: Request) -> Exchange {
        let started = Instant::now();
        let deadline = request.deadline;
        let mut partial = None;
        let ended = match self.prepare(request) {
            Ok(_) if deadline.is_zero() => Err(failure::too_late(deadline)),
            Ok(http) => tokio::time::timeout(deadline, self.exchange(http, &mut partial))
                .await
                .unwrap_or_else(|_elapsed| Err(failure::too_late(deadline))),
            Err(error) => Err(error),
        };
        Exchange { result: outcome(partial, ended), duration: started.elapsed() }
    }
}

impl fmt::Debug for ReqwestDeliverer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReqwestDeliverer")
            .field("rules", self.resolver.rules())
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}
