//! The way to the server, and the only module that names the crate fred.
//!
//! # What it owes
//!
//! - [`run`](Client::run) answers or fails within the command time-out, whatever the server and the network do:
//!   frozen, half-open, loading, failing over. Nothing hangs.
//! - A call whose connection was lost is repeated once, on a new one, if there is time; the answer says so, since
//!   to a few callers it matters. The client below never repeats by itself.
//! - A script that the server has forgotten is sent again in full.
//! - What waits to be sent is bounded; beyond, calls fail at once.
//! - What is published on one channel is heard over a connection of its own ([`Heard`]), and when that connection is
//!   lost or back.
//!
//! No type of the driver leaves this module, so another driver replaces it here: open, run, listen, close.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fred::interfaces::LuaInterface as _;
use fred::prelude::{
    Builder, ClientLike as _, Config, ConnectionConfig, Error as FredError, ErrorKind, EventInterface as _,
    Options, PerformanceConfig, PubsubInterface as _, ReconnectPolicy, TcpConfig, TlsConfig, Value,
};
use fred::types::RespVersion;
use fred::types::config::{ReconnectError, UnresponsiveConfig};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};
use webhook_core::error::BackendErrorKind as Kind;

use crate::config::RedisOptions;
use crate::error::{Fault, of_server};
use crate::script::{KEYS, SCRIPTS, Script};

/// Commands that wait to be sent on one connection. Each is at most one batch.
const WAITING: usize = 1024;
/// Between attempts to connect again.
const RECONNECT_MIN: Duration = Duration::from_millis(20);
const RECONNECT_MAX: Duration = Duration::from_secs(1);
/// How often the listening connection is asked whether it is alive.
const PING: Duration = Duration::from_secs(5);

const REFUSED: &str = "the server refuses the user or the password";

/// An answer of a script.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reply {
    Nothing,
    Int(i64),
    Bytes(Bytes),
    List(Vec<Reply>),
}

/// A script's answer, and whether it may be that of a repeat.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) reply: Reply,
    /// The call was made twice, because nothing is known of the first.
    pub(crate) repeated: bool,
}

/// What the listening connection hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A lane can be served after this time.
    Bell(Duration),
    /// From now on everything is heard. Something may have been missed before.
    Listening,
    /// Nothing is heard until further notice.
    Deaf,
}

/// Connections to one server, cluster or group of Sentinels. See the [module](self).
#[derive(Debug)]
pub(crate) struct Client {
    connections: Vec<fred::clients::Client>,
    next: AtomicUsize,
    keys: Vec<String>,
    hashes: Vec<String>,
    timeout: Duration,
    /// The server refused the credentials when it was last asked.
    refused: Arc<AtomicBool>,
    tasks: Vec<AbortHandle>,
}

impl Client {
    /// Begins to connect, and to connect again whenever a connection is lost. Does not wait.
    ///
    /// What is heard on the bell's channel goes to `hear`.
    pub(crate) fn open(
        options: &RedisOptions,
        hear: impl Fn(Heard) + Send + Sync + 'static,
    ) -> Result<Self, Fault> {
        let builder = builder(options)?;
        let build = || builder.build().map_err(fault);
        let connections = (0..options.connections).map(|_| build()).collect::<Result<Vec<_>, _>>()?;
        let listener = build()?;
        let mut tasks: Vec<AbortHandle> =
            connections.iter().map(|connection| connection.connect().abort_handle()).collect();
        let channel = format!("{{{}}}:bell", options.prefix);
        let refused = Arc::new(AtomicBool::new(false));
        tasks.push(tokio::spawn(listen(listener.clone(), channel, hear)).abort_handle());
        tasks.push(tokio::spawn(watch(listener.clone(), Arc::clone(&refused))).abort_handle());
        tasks.push(listener.connect().abort_handle());
        Ok(Self {
            connections,
            next: AtomicUsize::new(0),
            keys: KEYS.iter().map(|key| format!("{{{}}}:{key}", options.prefix)).collect(),
            hashes: SCRIPTS.iter().map(|(_, text)| fred::util::sha1_hash(text)).collect(),
            timeout: options.timeout,
            refused,
            tasks,
        })
    }

    /// Runs a script. See the [module](self) for what it owes.
    pub(crate) async fn run(&self, script: Script, args: Vec<Bytes>) -> Result<Answer, Fault> {
        let deadline = Instant::now() + self.timeout;
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let connection = &self.connections[next % self.connections.len()];
        let args: Vec<Value> = args.into_iter().map(Value::Bytes).collect();
        let call = async {
            let mut repeated = false;
            self.connected(connection).await?;
            loop {
                match self.attempt(connection, script, &args).await {
                    Ok(reply) => return Ok(Answer { reply, repeated }),
                    Err(fault) if fault.disconnected && !repeated => {
                        repeated = true;
                        // The driver may not have noticed yet that the connection is gone.
                        tokio::time::sleep(RECONNECT_MIN).await;
                        self.connected(connection).await?;
                    }
                    Err(fault) => return Err(fault),
                }
            }
        };
        timeout_at(deadline, call).await.unwrap_or_else(|_| Err(Fault::timeout()))
    }

    /// Returns when there is a connection, or when the server says that there will be none.
    async fn connected(&self, connection: &fred::clients::Client) -> Result<(), Fault> {
        while !connection.is_connected() {
            if self.refused.load(Ordering::Acquire) {
                return Err(Fault::new(Kind::Misconfigured, REFUSED));
            }
            // Bounded, because the driver's own wait can miss a connection that is made as it begins.
            let wait = tokio::time::timeout(RECONNECT_MIN * 2, connection.wait_for_connect()).await;
            if matches!(wait, Ok(Err(_))) {
                tokio::time::sleep(RECONNECT_MIN).await;
            }
        }
        Ok(())
    }

    async fn attempt(
        &self,
        connection: &fred::clients::Client,
        script: Script,
        args: &[Value],
    ) -> Result<Reply, Fault> {
        let number = script as usize;
        let (hash, keys) = (self.hashes[number].as_str(), self.keys.clone());
        let options = Options { max_attempts: Some(1), fail_fast: true, ..Options::default() };
        let connection = connection.with_options(&options);
        let answer = connection.evalsha::<Value, _, _, _>(hash, keys, args.to_vec()).await;
        let answer = match answer.map_err(fault) {
            Err(fault) if fault.no_script => {
                let (text, keys) = (SCRIPTS[number].1, self.keys.clone());
                connection.eval::<Value, _, _, _>(text, keys, args.to_vec()).await.map_err(self::fault)
            }
            answer => answer,
        };
        reply(answer?)
    }

    /// Says good-bye and closes all connections; dropping the client closes them without a word.
    pub(crate) async fn close(&self) {
        for connection in &self.connections {
            let _ = tokio::time::timeout(self.timeout, connection.quit()).await;
        }
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Drop for Client {
    /// The driver's tasks do not end by themselves when nobody holds their client any more.
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// What the URL says, and whether it asks for TLS.
pub(crate) fn config(options: &RedisOptions) -> Result<(Config, bool), Fault> {
    let misconfigured = |detail| Fault::new(Kind::Misconfigured, detail);
    let mut url = url::Url::parse(&options.url).map_err(|_| misconfigured("the URL cannot be read"))?;
    // TLS is set up here, not by the driver, which would take whatever provider the process happens to have.
    let scheme = url.scheme().to_owned();
    let tls = scheme.starts_with("rediss");
    let plain = if tls { scheme.replacen("rediss", "redis", 1) } else { scheme };
    if !matches!(plain.as_str(), "redis" | "redis-cluster" | "redis-sentinel") {
        return Err(misconfigured(
            "the URL's scheme must be redis, redis-cluster or redis-sentinel, or rediss for TLS",
        ));
    }
    if tls {
        url.set_scheme(&plain).map_err(|()| misconfigured("the URL's scheme cannot be read"))?;
    }
    let config = Config::from_url(url.as_str()).map_err(|error| {
        let detail = "the URL cannot be used: see RedisOptions::new for its forms";
        Fault { source: Some(Box::new(error)), ..misconfigured(detail) }
    })?;
    Ok((config, tls))
}

fn builder(options: &RedisOptions) -> Result<Builder, Fault> {
    let (mut config, tls) = config(options)?;
    // A server that is away when the process starts is no other than one that goes away later.
    config.fail_fast = false;
    config.version = RespVersion::RESP3;
    if tls {
        config.tls = Some(TlsConfig::from(crate::tls::client(options.roots.as_deref())?));
    }
    let mut builder = Builder::from_config(config);
    builder
        .set_policy(ReconnectPolicy::new_exponential(0, millis(RECONNECT_MIN), millis(RECONNECT_MAX), 2))
        .set_performance_config(PerformanceConfig {
            default_command_timeout: options.timeout,
            ..PerformanceConfig::default()
        })
        .set_connection_config(ConnectionConfig {
            connection_timeout: options.timeout,
            internal_command_timeout: options.timeout,
            max_command_attempts: 1,
            max_command_buffer_len: WAITING,
            unresponsive: UnresponsiveConfig {
                max_timeout: Some(options.timeout),
                interval: (options.timeout / 4).max(Duration::from_millis(2)),
            },
            tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
            reconnect_errors: vec![
                ReconnectError::ClusterDown,
                ReconnectError::Loading,
                ReconnectError::ReadOnly,
                ReconnectError::MasterDown,
            ],
            ..ConnectionConfig::default()
        });
    Ok(builder)
}

fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}

/// Listens until it is aborted.
async fn listen(
    client: fred::clients::Client,
    channel: String,
    hear: impl Fn(Heard) + Send + Sync + 'static,
) {
    let mut messages = client.message_rx();
    let mut reconnects = client.reconnect_rx();
    let mut ping = tokio::time::interval(PING);
    ping.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut listening = false;
    loop {
        tokio::select! {
            message = messages.recv() => match message {
                Ok(message) => hear(Heard::Bell(moment(&message.value))),
                // Some were missed.
                Err(_) => hear(Heard::Bell(Duration::ZERO)),
            },
            _ = reconnects.recv() => listening = false,
            _ = ping.tick() => {
                if listening && client.ping::<Value>(None).await.is_err() {
                    hear(Heard::Deaf);
                    listening = false;
                }
            }
        }
        if !listening {
            listening = client.subscribe(channel.as_str()).await.is_ok();
            hear(if listening { Heard::Listening } else { Heard::Deaf });
        }
    }
}

/// Notes whether the server refuses the credentials, until it is aborted: the driver goes on trying, and tells
/// callers only that there is no connection.
async fn watch(client: fred::clients::Client, refused: Arc<AtomicBool>) {
    let (mut errors, mut reconnects) = (client.error_rx(), client.reconnect_rx());
    loop {
        tokio::select! {
            error = errors.recv() => {
                let auth = error.is_ok_and(|(error, _)| *error.kind() == ErrorKind::Auth);
                refused.fetch_or(auth, Ordering::AcqRel);
            }
            _ = reconnects.recv() => refused.store(false, Ordering::Release),
        }
    }
}

fn moment(value: &Value) -> Duration {
    let micros = value.as_str().and_then(|text| text.parse().ok());
    Duration::from_micros(micros.unwrap_or(0))
}

fn reply(value: Value) -> Result<Reply, Fault> {
    match value {
        Value::Null => Ok(Reply::Nothing),
        Value::Integer(number) => Ok(Reply::Int(number)),
        Value::String(text) => Ok(Reply::Bytes(text.into_inner())),
        Value::Bytes(bytes) => Ok(Reply::Bytes(bytes)),
        Value::Array(values) => Ok(Reply::List(values.into_iter().map(reply).collect::<Result<_, _>>()?)),
        Value::Boolean(_) | Value::Double(_) | Value::Queued | Value::Map(_) => Err(Fault::reply()),
    }
}

/// What the driver's error means.
fn fault(error: FredError) -> Fault {
    let lost = |detail| Fault { disconnected: true, ..Fault::new(Kind::Unavailable, detail) };
    let fault = match error.kind() {
        ErrorKind::Timeout => Fault::timeout(),
        ErrorKind::IO | ErrorKind::Canceled => lost("the connection was lost"),
        // The server's errors begin with a code in capitals. What the driver itself calls unknown are commands
        // that it could not send, or whose connection was closed before the answer came.
        ErrorKind::Unknown if !begins_with_a_code(error.details()) => lost("the connection was lost"),
        ErrorKind::Routing => lost("no node serves the keys"),
        ErrorKind::Backpressure => Fault::new(Kind::Unavailable, "too many calls wait for the server"),
        ErrorKind::Sentinel => Fault::new(Kind::Unavailable, "the Sentinels name no primary"),
        ErrorKind::Cluster => of_cluster(error.details()),
        ErrorKind::Auth => Fault::new(Kind::Misconfigured, REFUSED),
        ErrorKind::Config | ErrorKind::Url => {
            Fault::new(Kind::Misconfigured, "the server is not of the kind that the URL names")
        }
        ErrorKind::Tls => Fault::new(Kind::Unavailable, "no TLS connection can be made"),
        ErrorKind::Protocol | ErrorKind::Parse => lost("the answer cannot be read"),
        ErrorKind::InvalidArgument | ErrorKind::InvalidCommand | ErrorKind::NotFound | ErrorKind::Unknown => {
            of_server(error.details())
        }
    };
    Fault { source: Some(Box::new(error)), ..fault }
}

fn begins_with_a_code(text: &str) -> bool {
    let code = text.split_whitespace().next().unwrap_or_default();
    code.len() > 1 && code.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn of_cluster(details: &str) -> Fault {
    if begins_with_a_code(details) {
        return of_server(details);
    }
    Fault { disconnected: true, ..Fault::new(Kind::Unavailable, "the cluster is being rearranged") }
}
