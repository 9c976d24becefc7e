//! What is measured, and one run of it.
//!
//! A run: a fresh server with a fresh database, subscriptions, a warm-up that proves the lane, then the load. It ends
//! by counting: when every delivery has arrived and the store holds none unfinished, or at the deadline. The server's
//! CPU is counted until then, so that work it puts off is in its figure.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::api::{Api, DEFAULT_TENANT};
use crate::arguments::Arguments;
use crate::load::{Load, Shape};
use crate::ordinary;
use crate::process::Process;
use crate::receiver::Receiver;
use crate::server::{Backends, Server};
use crate::tally::Tally;
use crate::{Failure, payload};

const EVENT: &str = "bench.event";
const WAITING: &str = "bench.waiting";
/// Events before the measured ones: enough for a lane to be proven at its full limit and for pages to be warm.
const WARM_UP: usize = 1_000;
const IDLE_SUBSCRIPTIONS: usize = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setting {
    Sockets,
    Raw,
    One,
    Batch,
    Paced,
    FanOut,
    FailFirst,
    Backlog,
    Idle,
}

impl Setting {
    pub(crate) const DEFAULT: [Self; 5] =
        [Self::One, Self::Batch, Self::Paced, Self::FanOut, Self::FailFirst];

    /// Measured in every round: what the others are compared to.
    pub(crate) const LIMITS: [Self; 2] = [Self::Sockets, Self::Raw];

    const ALL: [(Self, &'static str, &'static str); 9] = [
        (Self::Sockets, "sockets", "load generator straight to receiver over bare sockets; always measured"),
        (Self::Raw, "raw", "the same over HTTP as software speaks it: hyper at both ends; always measured"),
        (Self::One, "one", "one event a request, at full speed"),
        (Self::Batch, "batch", "100 events a request, at full speed; twice the events"),
        (Self::Paced, "paced", "1,000 events/s for 10 s (2 s with --quick), one a request"),
        (Self::FanOut, "fan-out", "10 subscriptions match each event; a fifth of the events"),
        (Self::FailFirst, "fail-first", "the first attempt of each delivery gets a 500, retried after 1 s"),
        (Self::Backlog, "backlog", "`one` beside 100,000 deliveries that wait (5,000 with --quick)"),
        (Self::Idle, "idle", "1,000 subscriptions and nothing to do, for 10 s"),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(setting, ..)| *setting == self).map_or("", |(_, name, _)| name)
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known, _)| *known == name).map(|(setting, ..)| *setting)
    }

    pub(crate) fn list() -> String {
        let lines = Self::ALL.iter().map(|(_, name, what)| format!("  {name:<11} {what}\n"));
        format!("Settings:\n{}", lines.collect::<String>())
    }

    fn plan(self, arguments: &Arguments) -> Plan {
        let full = arguments.events;
        let plain = Plan {
            shape: Shape::One,
            events: full,
            subscriptions: 1,
            pace: None,
            fail_first: false,
            waiting: 0,
        };
        match self {
            Self::One | Self::Idle => plain,
            // Fast enough to need more events for as long a run.
            Self::Sockets | Self::Raw => Plan { shape: Shape::Raw, events: full * 3, ..plain },
            Self::Batch => Plan { shape: Shape::Batch(100), events: full * 2, ..plain },
            Self::Paced => {
                let events = if arguments.quick { 2_000 } else { 10_000 };
                Plan { events, pace: Some(1_000), ..plain }
            }
            Self::FanOut => Plan { events: full.div_ceil(5), subscriptions: 10, ..plain },
            Self::FailFirst => Plan { fail_first: true, ..plain },
            Self::Backlog => Plan { waiting: if arguments.quick { 5_000 } else { 100_000 }, ..plain },
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Plan {
    shape: Shape,
    events: usize,
    subscriptions: usize,
    pace: Option<u32>,
    fail_first: bool,
    /// Deliveries of a paused subscription, published before.
    waiting: usize,
}

/// What one run showed.
#[derive(Debug, Clone)]
pub(crate) enum Measured {
    Load(Loaded),
    Idle { cpu_percent: f64, memory_kib: u64 },
}

#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    /// Measured deliveries, warm-up not included.
    pub(crate) deliveries: usize,
    /// From the first measured request to the last arrival.
    pub(crate) elapsed: Duration,
    pub(crate) own_cpu: Duration,
    /// None where there is no server.
    pub(crate) server: Option<ServerCost>,
    /// Nanoseconds, sorted.
    pub(crate) acknowledged: Vec<u64>,
    pub(crate) delivered: Vec<u64>,
    pub(crate) missing: usize,
    pub(crate) duplicates: usize,
    pub(crate) strange: usize,
    /// All arrived, but the store said until the deadline that something was unfinished.
    pub(crate) unsettled: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerCost {
    pub(crate) cpu: Duration,
    pub(crate) backends: Backends<Option<Duration>>,
    pub(crate) peak_memory_kib: u64,
}

impl Loaded {
    fn new(plan: &Plan, tally: &Tally, started: u64, mut acknowledged: Vec<u64>, own_cpu: Duration) -> Self {
        acknowledged.sort_unstable();
        let mut delivered = tally.latencies();
        delivered.sort_unstable();
        Self {
            deliveries: plan.events * plan.subscriptions,
            elapsed: Duration::from_nanos(tally.last_arrival().saturating_sub(started)),
            own_cpu,
            server: None,
            acknowledged,
            delivered,
            missing: tally.missing(),
            duplicates: tally.duplicates(),
            strange: tally.strange(),
            unsettled: false,
        }
    }

    pub(crate) fn rate(&self) -> f64 {
        let arrived = self.deliveries.saturating_sub(self.missing);
        arrived as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    fn is_clean(&self) -> bool {
        self.missing == 0 && self.duplicates == 0 && self.strange == 0 && !self.unsettled
    }
}

impl Measured {
    pub(crate) fn is_clean(&self) -> bool {
        match self {
            Self::Load(loaded) => loaded.is_clean(),
            Self::Idle { .. } => true,
        }
    }

    pub(crate) fn in_short(&self) -> String {
        match self {
            Self::Load(loaded) if loaded.is_clean() => format!("{:.0} deliveries/s", loaded.rate()),
            Self::Load(loaded) => format!(
                "FAILED: {} missing, {} duplicates, {} strange{}",
                loaded.missing,
                loaded.duplicates,
                loaded.strange,
                if loaded.unsettled { ", unfinished deliveries in the store" } else { "" }
            ),
            Self::Idle { cpu_percent, .. } => format!("{cpu_percent:.2} % of a core"),
        }
    }
}

/// One run with a server of its own, which must then stop cleanly.
pub(crate) async fn run(setting: Setting, arguments: &Arguments) -> Result<Measured, Failure> {
    let plan = setting.plan(arguments);
    match setting {
        Setting::Sockets => return load(&plan, arguments, None).await.map(Measured::Load),
        Setting::Raw => return by_hyper(&plan, arguments).await.map(Measured::Load),
        _ => {}
    }
    let binary = arguments.server.as_deref().ok_or("no --server to measure")?;
    let options = ["--max-in-flight".to_owned(), arguments.max_in_flight.to_string()];
    let mut server = tokio::task::block_in_place(|| Server::start(binary, arguments.layout(), &options))?;
    let measured = match setting {
        Setting::Idle => idle(&mut server).await?,
        _ => Measured::Load(load(&plan, arguments, Some(&mut server)).await?),
    };
    tokio::task::block_in_place(|| server.stop())?;
    Ok(measured)
}

/// The raw exchange by hyper: it has no server, and everything has arrived when the last answer is in.
async fn by_hyper(plan: &Plan, arguments: &Arguments) -> Result<Loaded, Failure> {
    let tally = Arc::new(Tally::new(WARM_UP, plan.events, 1, false));
    let receiver = ordinary::Receiver::start(Arc::clone(&tally))
        .await
        .map_err(|error| format!("cannot receive: {error}"))?;
    ordinary::send(receiver.address, 0, WARM_UP, arguments.concurrency).await?;
    let own_before = Process::OWN.cpu()?;
    let started = payload::now();
    let load = ordinary::send(receiver.address, WARM_UP, plan.events, arguments.concurrency);
    let acknowledged = timeout(arguments.deadline, load)
        .await
        .map_err(|_| format!("the load was not answered within {:?}", arguments.deadline))??;
    let own_cpu = Process::OWN.cpu()?.saturating_sub(own_before);
    Ok(Loaded::new(plan, &tally, started, acknowledged, own_cpu))
}

async fn load(plan: &Plan, arguments: &Arguments, server: Option<&mut Server>) -> Result<Loaded, Failure> {
    let mut server = server;
    let tally = Arc::new(Tally::new(WARM_UP, plan.events, plan.subscriptions, plan.fail_first));
    let receiver =
        Receiver::start(Arc::clone(&tally)).await.map_err(|error| format!("cannot receive: {error}"))?;
    let to = server.as_ref().map_or(receiver.address(), |server| server.address());
    let mut subscriptions = Vec::new();
    if server.is_some() {
        let mut api = Api::open(to).await?;
        for number in 0..plan.subscriptions {
            subscriptions.push(api.subscribe(&receiver.target(number), EVENT).await?);
        }
        if plan.waiting > 0 {
            publish_waiting(&mut api, &receiver, to, plan.waiting).await?;
        }
    }
    let whole = Load {
        to,
        shape: plan.shape,
        first: 0,
        events: WARM_UP,
        concurrency: arguments.concurrency,
        pace: None,
        event_type: EVENT,
        tenant: None,
    };
    let until = Instant::now() + arguments.deadline;
    whole.run().await?;
    arrival(&tally, tally.warm_up_deliveries(), until, server.as_deref_mut()).await?;
    if tally.arrived() < tally.warm_up_deliveries() {
        return Err(format!("only {} deliveries of the warm-up arrived", tally.arrived()));
    }
    settled(DEFAULT_TENANT, &subscriptions, to, until).await?;

    let until = Instant::now() + arguments.deadline;
    let server_before = server
        .as_ref()
        .map(|server| Ok::<_, Failure>((server.cpu()?, server.backends_cpu()?)))
        .transpose()?;
    let own_before = Process::OWN.cpu()?;
    let started = payload::now();
    let measured = Load { first: WARM_UP, events: plan.events, pace: plan.pace, ..whole };
    let acknowledged = timeout(arguments.deadline, measured.run())
        .await
        .map_err(|_| format!("the load was not acknowledged within {:?}", arguments.deadline))??;
    arrival(&tally, tally.expected(), until, server.as_deref_mut()).await?;
    let unsettled = !settled(DEFAULT_TENANT, &subscriptions, to, until).await?;
    let own_cpu = Process::OWN.cpu()?.saturating_sub(own_before);
    let mut loaded = Loaded::new(plan, &tally, started, acknowledged, own_cpu);
    loaded.unsettled = unsettled;
    if let (Some(server), Some((before, backends))) = (server, server_before) {
        server.check()?;
        let since = |now: Option<Duration>, before: Option<Duration>| Some(now?.saturating_sub(before?));
        let now = server.backends_cpu()?;
        loaded.server = Some(ServerCost {
            cpu: server.cpu()?.saturating_sub(before),
            backends: Backends {
                postgres: since(now.postgres, backends.postgres),
                redis: since(now.redis, backends.redis),
            },
            peak_memory_kib: server.peak_memory()?,
        });
    }
    Ok(loaded)
}

/// Fills the store with deliveries that are not to be sent.
async fn publish_waiting(
    api: &mut Api,
    receiver: &Receiver,
    to: std::net::SocketAddr,
    waiting: usize,
) -> Result<(), Failure> {
    let paused = api.subscribe(&receiver.target(0), WAITING).await?;
    api.pause(&paused).await?;
    let load = Load {
        to,
        shape: Shape::Batch(1_000),
        first: 0,
        events: waiting,
        concurrency: 4,
        pace: None,
        event_type: WAITING,
        tenant: None,
    };
    load.run().await.map(drop)
}

/// Waits until so many deliveries arrived, or the deadline; the caller sees by the count which it was.
pub(crate) async fn arrival(
    tally: &Tally,
    deliveries: usize,
    until: Instant,
    server: Option<&mut Server>,
) -> Result<(), Failure> {
    let mut server = server;
    while tally.arrived() < deliveries && Instant::now() < until {
        // The end of this wait without a change is no error: it is when the server is looked at.
        let _ = timeout(Duration::from_millis(20), tally.changed()).await;
        if let Some(server) = &mut server {
            server.check()?;
        }
    }
    Ok(())
}

/// Waits until the store holds no unfinished delivery of these subscriptions of a tenant; false at the deadline.
pub(crate) async fn settled(
    tenant: &str,
    subscriptions: &[String],
    server: std::net::SocketAddr,
    until: Instant,
) -> Result<bool, Failure> {
    if subscriptions.is_empty() {
        return Ok(true);
    }
    let mut api = Api::open(server).await?;
    for subscription in subscriptions {
        while api.has_unfinished(tenant, subscription).await? {
            if Instant::now() >= until {
                return Ok(false);
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(true)
}

/// CPU and memory of a server that has subscriptions and nothing to do.
async fn idle(server: &mut Server) -> Result<Measured, Failure> {
    const CALM: Duration = Duration::from_secs(3);
    const WATCHED: Duration = Duration::from_secs(10);
    let mut api = Api::open(server.address()).await?;
    for number in 0..IDLE_SUBSCRIPTIONS {
        // A port that nobody is sent to.
        api.subscribe(&format!("http://127.0.0.1:9000/h/{number}"), EVENT).await?;
    }
    sleep(CALM).await;
    let before = server.cpu()?;
    sleep(WATCHED).await;
    server.check()?;
    let cpu = server.cpu()?.saturating_sub(before);
    Ok(Measured::Idle {
        cpu_percent: 100.0 * cpu.as_secs_f64() / WATCHED.as_secs_f64(),
        memory_kib: server.resident_memory()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::Parsed;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_limits_account_for_every_event() {
        let line = "--settings sockets --events 200 --concurrency 4 --deadline 20";
        let parsed = crate::arguments::parse(line.split(' ').map(str::to_owned));
        let Ok(Parsed::Run(arguments)) = parsed else { panic!("not a run: {parsed:?}") };
        for limit in Setting::LIMITS {
            match run(limit, &arguments).await {
                Ok(Measured::Load(loaded)) => {
                    assert!(loaded.is_clean(), "{loaded:?}");
                    assert_eq!(loaded.deliveries, 600);
                    assert_eq!((loaded.acknowledged.len(), loaded.delivered.len()), (600, 600));
                    assert!(loaded.rate() > 0.0 && loaded.elapsed > Duration::ZERO);
                }
                other => panic!("{}: {other:?}", limit.name()),
            }
        }
    }
}
