//! The phases: who is beside the healthy subscription, and with how much work. Everything beside belongs to another
//! tenant, and keeps the server's own retry policy.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::trap::{Manner, Refusing, Trap};
use crate::Failure;
use crate::api::Api;
use crate::load::{Load, Shape};
use crate::receiver::Receiver;
use crate::setting::settled;
use crate::tally::Tally;

const TENANT: &str = "beside";
const BESIDE: &str = "bench.beside";
const FLAKY: &str = "bench.flaky";

const HANGING_EVENTS: usize = 10_000;
const DEAD_TARGETS: usize = 1_000;
const DEAD_EVENTS: usize = 5;
const LATE_TARGETS: usize = 8;
const LATE_EVENTS: usize = 500;
const LATE: Duration = Duration::from_secs(14);
const BURST_EVENTS: usize = 100_000;
const TURNING_TARGETS: usize = 50;
const TURNING_EVENTS: usize = 100;
const FLAKY_TARGETS: usize = 8;
/// Events a second to each of them.
const FLAKY_PACE: u32 = 20;
/// Events that prove the targets which turn bad.
const PROOF: usize = 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Alone,
    Hanging,
    Dead,
    Late,
    Burst,
    Turning,
}

impl Phase {
    pub(crate) const ALL: [Self; 6] =
        [Self::Alone, Self::Hanging, Self::Dead, Self::Late, Self::Burst, Self::Turning];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Hanging => "hanging",
            Self::Dead => "dead",
            Self::Late => "late",
            Self::Burst => "burst",
            Self::Turning => "turning",
        }
    }

    fn what(self) -> &'static str {
        match self {
            Self::Alone => "nobody; measured in every round",
            Self::Hanging => "a target that accepts and never answers, with 10,000 events waiting",
            Self::Dead => "1,000 targets, 5 events each: half never answer, half refuse connections",
            Self::Late => "8 targets that answer after 14 s, 500 events each",
            Self::Burst => "100,000 events of another tenant, batches of 1,000, 4 at once, healthy target",
            Self::Turning => {
                "50 good targets that hang together (100 events each) and 8 that hang at every second request (20/s each)"
            }
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.name() == name)
    }

    pub(crate) fn list() -> String {
        let line = |phase: Self| format!("  {:<11} {}\n", phase.name(), phase.what());
        format!("Phases of --isolation, beside the healthy subscription:\n{}", Self::ALL.map(line).concat())
    }
}

/// What is beside the healthy subscription, until it is dropped.
#[derive(Debug)]
pub(super) struct Disturbance {
    to: SocketAddr,
    phase: Phase,
    seconds: u32,
    traps: Vec<Trap>,
    burst: Option<(Receiver, Arc<Tally>)>,
    _refusing: Option<Refusing>,
}

impl Disturbance {
    /// Makes targets and subscriptions, and all that is to be there before the measured load begins.
    pub(super) async fn prepare(
        phase: Phase,
        to: SocketAddr,
        seconds: u32,
        until: Instant,
    ) -> Result<Self, Failure> {
        let mut made = Self { to, phase, seconds, traps: Vec::new(), burst: None, _refusing: None };
        let mut api = Api::open(to).await?;
        match phase {
            Phase::Alone => {}
            Phase::Hanging => {
                let trap = made.set(Manner::Hang, true).await?;
                api.subscribe_of(TENANT, &trap.target(0), BESIDE).await?;
                made.publish(BESIDE, HANGING_EVENTS).run().await?;
            }
            Phase::Dead => {
                let refusing = Refusing::hold().map_err(|error| no_target(&error))?;
                let trap = made.set(Manner::Hang, true).await?;
                for number in 0..DEAD_TARGETS {
                    let refuses = number % 2 == 0;
                    let target = if refuses { refusing.target(number) } else { trap.target(number) };
                    api.subscribe_of(TENANT, &target, BESIDE).await?;
                }
                made._refusing = Some(refusing);
            }
            Phase::Late => {
                let trap = made.set(Manner::Late(LATE), true).await?;
                for number in 0..LATE_TARGETS {
                    api.subscribe_of(TENANT, &trap.target(number), BESIDE).await?;
                }
            }
            Phase::Burst => {
                let tally = Arc::new(Tally::new(0, BURST_EVENTS, 1, false));
                let receiver =
                    Receiver::start(Arc::clone(&tally)).await.map_err(|error| no_target(&error))?;
                api.subscribe_of(TENANT, &receiver.target(0), BESIDE).await?;
                made.burst = Some((receiver, tally));
            }
            Phase::Turning => made.turn_bad(&mut api, until).await?,
        }
        Ok(made)
    }

    /// What is published from the moment the measured load begins.
    pub(super) fn loads(&self) -> Vec<Load> {
        match self.phase {
            Phase::Alone | Phase::Hanging => Vec::new(),
            Phase::Dead => vec![self.publish(BESIDE, DEAD_EVENTS)],
            Phase::Late => vec![self.publish(BESIDE, LATE_EVENTS)],
            Phase::Burst => vec![self.publish(BESIDE, BURST_EVENTS)],
            Phase::Turning => vec![
                self.publish(BESIDE, TURNING_EVENTS),
                Load {
                    shape: Shape::One,
                    pace: Some(FLAKY_PACE),
                    ..self.publish(FLAKY, FLAKY_PACE as usize * self.seconds as usize)
                },
            ],
        }
    }

    /// Requests that reached the targets beside since they turned bad; a target that refuses sees none.
    pub(super) fn requests(&self) -> usize {
        let proofs = if self.phase == Phase::Turning { PROOF * (TURNING_TARGETS + FLAKY_TARGETS) } else { 0 };
        let burst = self.burst.as_ref().map_or(0, |(_, tally)| tally.arrived());
        (self.trapped() + burst).saturating_sub(proofs)
    }

    fn trapped(&self) -> usize {
        self.traps.iter().map(Trap::requests).sum()
    }

    async fn set(&mut self, manner: Manner, sprung: bool) -> Result<&Trap, Failure> {
        let trap = Trap::set(manner, sprung).await.map_err(|error| no_target(&error))?;
        self.traps.push(trap);
        self.traps.last().ok_or_else(|| "no trap".to_owned())
    }

    /// As fast as it goes; each event to every subscription of its type.
    fn publish(&self, event_type: &'static str, events: usize) -> Load {
        Load {
            to: self.to,
            shape: Shape::Batch(1_000),
            first: 0,
            events,
            concurrency: 4,
            pace: None,
            event_type,
            tenant: Some(TENANT),
        }
    }

    /// Targets that are proven first, and misbehave from then on.
    async fn turn_bad(&mut self, api: &mut Api, until: Instant) -> Result<(), Failure> {
        let mut subscriptions = Vec::new();
        let together = self.set(Manner::Hang, false).await?;
        for number in 0..TURNING_TARGETS {
            subscriptions.push(api.subscribe_of(TENANT, &together.target(number), BESIDE).await?);
        }
        for number in 0..FLAKY_TARGETS {
            // Each counts its own requests.
            let alone = self.set(Manner::HangEverySecond, false).await?;
            subscriptions.push(api.subscribe_of(TENANT, &alone.target(number), FLAKY).await?);
        }
        for event_type in [BESIDE, FLAKY] {
            self.publish(event_type, PROOF).run().await?;
        }
        while self.trapped() < PROOF * subscriptions.len() {
            if Instant::now() >= until {
                return Err("the targets that turn bad were not proven before the deadline".to_owned());
            }
            sleep(Duration::from_millis(20)).await;
        }
        if !settled(TENANT, &subscriptions, self.to, until).await? {
            return Err("the proofs were not recorded before the deadline".to_owned());
        }
        self.traps.iter().for_each(Trap::spring);
        Ok(())
    }
}

fn no_target(error: &std::io::Error) -> Failure {
    format!("cannot make the targets beside: {error}")
}
