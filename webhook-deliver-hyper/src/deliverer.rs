//! One exchange, from the request to what came of it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_LENGTH, HOST, HeaderValue};
use hyper::{Method, Uri};
use tokio::time::Instant;
use url::{Position, Url};
use webhook_core::deliver::{Deliverer, Exchange, Request};
use webhook_core::model::{AttemptError, ErrorKind};
use webhook_dial::{Partial, failure, header_map, outcome};

use crate::answer::read_body;
use crate::builder::Builder;
use crate::connect::Connector;
use crate::connection::{Outgoing, Unanswered};
use crate::pool::Pool;

/// Sends webhooks over kept connections of its own. See the [crate] for what it promises.
///
/// Make one for the whole process: it keeps connections, and its bound on name lookups is its own. Cloning is
/// cheap and shares both.
#[derive(Clone)]
pub struct HyperDeliverer {
    inner: Arc<Inner>,
}

struct Inner {
    connector: Connector,
    pool: Arc<Pool>,
}

impl HyperDeliverer {
    /// Settings, all with defaults.
    ///
    /// ```
    /// use webhook_core::target::TargetRules;
    /// use webhook_deliver_hyper::HyperDeliverer;
    ///
    /// let rules = TargetRules { https_only: true, ..TargetRules::default() };
    /// let deliverer = HyperDeliverer::builder().target_rules(rules).build()?;
    /// # Ok::<(), webhook_deliver_hyper::BuildError>(())
    /// ```
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn new(connector: Connector, pool: Arc<Pool>) -> Self {
        Self { inner: Arc::new(Inner { connector, pool }) }
    }
}

impl Inner {
    /// Checks the target, which for an IP literal is the only check.
    fn prepare(&self, request: Request) -> Result<(Url, Outgoing), AttemptError> {
        self.connector.resolver.rules().check(&request.url).map_err(|error| failure::refused(&error))?;
        let mut headers = header_map(request.headers, 2)?;
        let unfit = |_| AttemptError::new(ErrorKind::Internal, "the URL cannot be sent over HTTP");
        let host = &request.url[Position::BeforeHost..Position::AfterPort];
        headers.insert(HOST, HeaderValue::from_str(host).map_err(|_| unfit(()))?);
        if request.body.is_empty() {
            // hyper leaves it out, but a method that can have a body should tell its length (RFC 9110, 8.6).
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let path = &request.url[Position::BeforePath..Position::AfterQuery];
        let path = Uri::try_from(path).map_err(|_| unfit(()))?;
        let mut http = Outgoing::new(Full::<Bytes>::new(request.body));
        *http.method_mut() = Method::POST;
        *http.uri_mut() = path;
        *http.headers_mut() = headers;
        Ok((request.url, http))
    }

    /// Leaves in `partial` what came, so that it survives when this future is dropped at the deadline.
    async fn exchange(
        &self,
        url: &Url,
        mut http: Outgoing,
        partial: &mut Option<Partial>,
    ) -> Result<(), AttemptError> {
        let origin = &url[..Position::BeforePath];
        loop {
            let kept = self.pool.take(origin);
            let is_kept = kept.is_some();
            let mut connection = match kept {
                Some(connection) => connection,
                None => Box::pin(self.connector.connect(url)).await?,
            };
            let response = match connection.send(http).await {
                Ok(response) => response,
                // Closed while it was idle. Nothing was written, so no target can have seen this try.
                Err(Unanswered::Unsent(request, _)) if is_kept => {
                    http = *request;
                    continue;
                }
                Err(Unanswered::Unsent(_, error) | Unanswered::Failed(error)) => return Err(error),
            };
            let (head, body) = response.into_parts();
            let partial = partial.insert(Partial::new(head.status.as_u16(), &head.headers)?);
            if read_body(&mut connection, body, partial).await && connection.is_open() {
                self.pool.keep(origin, connection);
            }
            return Ok(());
        }
    }
}

#[async_trait]
impl Deliverer for HyperDeliverer {
    async fn deliver(&self, request: Request) -> Exchange {
        let started = Instant::now();
        let deadline = request.deadline;
        let mut partial = None;
        let ended = match self.inner.prepare(request) {
            Ok(_) if deadline.is_zero() => Err(failure::too_late(deadline)),
            Ok((url, http)) => tokio::time::timeout(deadline, self.inner.exchange(&url, http, &mut partial))
                .await
                .unwrap_or_else(|_elapsed| Err(failure::too_late(deadline))),
            Err(error) => Err(error),
        };
        Exchange { result: outcome(partial, ended), duration: started.elapsed() }
    }
}

impl fmt::Debug for HyperDeliverer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HyperDeliverer")
            .field("rules", self.inner.connector.resolver.rules())
            .finish_non_exhaustive()
    }
}
