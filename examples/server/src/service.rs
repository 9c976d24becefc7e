//! The service itself: an engine over its storage, and the HTTP server in front. `serve` runs one until a signal
//! comes; the demo runs one beside its receivers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use webhook_core::store::History;
use webhook_core::{Webhooks, Workers};
use webhook_deliver_hyper::HyperDeliverer;

use crate::accept;
use crate::backend::Backend;
use crate::config::ServeConfig;
use crate::http::{self, Gate};
use crate::otlp;
use crate::report::Failure;

/// Longest wait for requests to the API at a stop. They take milliseconds; only a client that stopped sending in
/// the middle of one keeps it open, and the rest of the grace belongs to deliveries.
const REQUESTS: Duration = Duration::from_secs(5);

/// Longest wait at the very end for answers to leave. Idle connections are closed without it.
const ANSWERS: Duration = Duration::from_secs(1);

/// A running service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) webhooks: Webhooks,
    pub(crate) history: Arc<dyn History>,
    backend: Backend,
    gate: Gate,
    close: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Service {
    /// Takes the port, opens the storage, starts the workers if it has any, and answers requests, in this order: a server that
    /// finds its port taken leaves no database behind.
    ///
    /// # Errors
    /// The one thing that is not there.
    pub(crate) async fn start(config: &ServeConfig) -> Result<Self, Failure> {
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|error| Failure::Start(http::cannot_listen(config.listen, &error)))?;
        Self::start_on(listener, config).await
    }

    /// As [`start`](Self::start), on a port that was taken before.
    ///
    /// # Errors
    /// The one thing that is not there.
    pub(crate) async fn start_on(listener: TcpListener, config: &ServeConfig) -> Result<Self, Failure> {
        let address = listener.local_addr().map_err(Failure::start)?;
        let backend = Backend::open(&config.database, config.role, config.migrate)
            .await
            .map_err(|error| Failure::cannot_open(&config.database, &error))?;
        let webhooks = build(config, &backend)?;
        if config.role.delivers() {
            webhooks.spawn(Workers::default().concurrency(config.concurrency)).map_err(Failure::start)?;
        }

        let gate = Gate::default();
        let app = http::app(&webhooks, Arc::clone(&backend.history), config, gate.clone());
        let (close, closed) = oneshot::channel::<()>();
        let server =
            tokio::spawn(accept::serve(listener, app, accept::HEAD, async move { drop(closed.await) }));
        let history = Arc::clone(&backend.history);
        Ok(Self { address, webhooks, history, backend, gate, close, server })
    }

    /// Stops: nothing more is claimed or taken in, what is in flight may finish within `grace`, and probes say
    /// `draining` until all of it has.
    pub(crate) async fn stop(self, grace: Duration) {
        let end = Instant::now() + grace;
        self.gate.close();
        self.webhooks.stop_claiming();
        if timeout(REQUESTS.min(grace / 2), self.gate.empty()).await.is_err() {
            tracing::warn!("requests to the API that did not end are cut off");
        }
        self.webhooks.shutdown(end.saturating_duration_since(Instant::now())).await;
        drop(self.close);
        if timeout(ANSWERS, self.server).await.is_err() {
            tracing::info!("connections that did not end are cut off");
        }
        self.backend.close().await;
    }
}

/// The engine by this configuration.
fn build(config: &ServeConfig, backend: &Backend) -> Result<Webhooks, Failure> {
    let deliverer = HyperDeliverer::builder()
        .target_rules(config.rules.clone())
        .connect_timeout(config.timeout.min(webhook_deliver_hyper::DEFAULT_CONNECT_TIMEOUT))
        .build()
        .map_err(Failure::start)?;
    let mut builder = Webhooks::builder(Arc::clone(&backend.store))
        .deliverer(Arc::new(deliverer))
        .target_rules(config.rules.clone())
        .retry(config.retry.clone())
        .timeout(config.timeout)
        .lease(config.lease)
        .max_in_flight(config.max_in_flight)
        .max_payload(config.max_payload)
        .retention(config.retention)
        .max_age(config.max_age)
        .user_agent(concat!("webhook-server/", env!("CARGO_PKG_VERSION")))
        .begin_traces(otlp::is_configured());
    if let Some(queue) = &backend.queue {
        builder = builder.queue(Arc::clone(queue));
    }
    builder.build().map_err(Failure::start)
}

/// Starts a runtime and runs `main` on it.
///
/// # Errors
/// Those of `main`, and when there is no runtime to be had.
pub(crate) fn block_on(main: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Start(format!("cannot start threads: {error}")))?;
    let result = runtime.block_on(main);
    // What still runs here holds nothing that is needed: a lookup in a name server that never answers, say.
    runtime.shutdown_timeout(Duration::from_millis(500));
    result
}
