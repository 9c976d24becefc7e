//! Random calls against a model that knows what each answer may be.
//!
//! The model does not say which due job a claim gives (queues choose), but whether each lease was allowed
//! and right in every field, and what every other call must answer. At the end everything that is owed must
//! come out.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use webhook_core::id::{DeliveryId, LaneId, Token};
use webhook_core::lane::{Effect, Health, limit};
use webhook_core::queue::{Enqueued, Hold, LaneSettings, NewJob, Settle, Settled, Verdict};

use crate::QueueFixture;
use crate::bench::{Bench, LIMIT, LONG, settings, wish};

const RUNS: usize = 12;
const STEPS: usize = 80;
const LANES: usize = 3;
const JOBS: usize = 12;
/// Never due within a run.
const FAR: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Debug, Clone)]
enum Call {
    Enqueue { job: usize, far: bool },
    Claim { room: u32 },
    Settle { job: usize, verdict: Verdict, effect: Effect, stale: bool },
    Extend { job: usize, stale: bool },
    Remove { job: usize },
    Hold { lane: usize, hold: bool },
    Lapse,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let verdict = prop_oneof![
        Just(Verdict::Done),
        Just(Verdict::RetryAfter(Duration::ZERO)),
        Just(Verdict::RetryAfter(FAR)),
        Just(Verdict::Release),
    ];
    let effect =
        prop_oneof![Just(Effect::Fast), Just(Effect::Slow), Just(Effect::Unanswered), Just(Effect::Neutral)];
    let call = prop_oneof![
        4 => (0..JOBS, prop::bool::weighted(0.2)).prop_map(|(job, far)| Call::Enqueue { job, far }),
        4 => (0u32..5).prop_map(|room| Call::Claim { room }),
        4 => (0..JOBS, verdict, effect, prop::bool::weighted(0.2))
            .prop_map(|(job, verdict, effect, stale)| Call::Settle { job, verdict, effect, stale }),
        1 => (0..JOBS, any::<bool>()).prop_map(|(job, stale)| Call::Extend { job, stale }),
        1 => (0..JOBS).prop_map(|job| Call::Remove { job }),
        1 => (0..LANES, any::<bool>()).prop_map(|(lane, hold)| Call::Hold { lane, hold }),
        1 => Just(Call::Lapse),
    ];
    prop::collection::vec(call, STEPS)
}

#[derive(Debug)]
struct ModelJob {
    lane: LaneId,
    far: bool,
    leased: bool,
    token: Option<Token>,
    unsettled: Vec<Token>,
}

#[derive(Debug, Default)]
struct ModelLane {
    version: u64,
    held: bool,
    health: Health,
    in_flight: u32,
    parked: bool,
}

struct Model<'a, F> {
    bench: Bench<'a, F>,
    ids: Vec<DeliveryId>,
    lane_ids: Vec<LaneId>,
    jobs: BTreeMap<DeliveryId, ModelJob>,
    lanes: BTreeMap<LaneId, ModelLane>,
}

/// A fixed seed, so that a failure comes again; its calls are printed with it.
pub async fn random_calls_do_what_the_model_says<F: QueueFixture>(fixture: &F) {
    let mut runner = TestRunner::deterministic();
    for run in 0..RUNS {
        let calls = calls().new_tree(&mut runner).expect("nothing is filtered out").current();
        let mut model = Model::new(fixture).await;
        for (step, call) in calls.iter().enumerate() {
            if let Err(wrong) = model.apply(call).await {
                panic!("run {run}, step {step}: {wrong}\nafter {:#?}", &calls[..=step]);
            }
        }
        model.drain().await;
    }
}

impl<'a, F: QueueFixture> Model<'a, F> {
    async fn new(fixture: &'a F) -> Self {
        let bench = Bench::new(fixture);
        let mut lanes = BTreeMap::new();
        for _ in 0..LANES {
            lanes.insert(bench.lane().await, ModelLane { version: 1, ..ModelLane::default() });
        }
        let ids = (0..JOBS).map(|_| DeliveryId::new()).collect();
        Self { bench, ids, lane_ids: lanes.keys().copied().collect(), jobs: BTreeMap::new(), lanes }
    }

    async fn apply(&mut self, call: &Call) -> Result<(), String> {
        match call {
            Call::Enqueue { job, far } => self.enqueue(*job, *far).await?,
            Call::Claim { room } => self.claim(*room).await?,
            Call::Settle { job, verdict, effect, stale } => {
                self.settle(*job, *verdict, *effect, *stale).await?;
            }
            Call::Extend { job, stale } => self.extend(*job, *stale).await?,
            Call::Remove { job } => self.remove(*job).await,
            Call::Hold { lane, hold } => self.hold(*lane, *hold).await,
            Call::Lapse => self.lapse().await,
        }
        self.compare().await
    }

    async fn enqueue(&mut self, job: usize, far: bool) -> Result<(), String> {
        let (id, lane) = (self.ids[job], self.lane_ids[job % LANES]);
        let wait = if far { FAR } else { Duration::ZERO };
        let new = NewJob { id, lane, wait, lane_version: self.lanes[&lane].version, urgent: false };
        let expected = if let Some(job) = self.jobs.get_mut(&id) {
            // A leased one stays as it is.
            job.far &= job.leased || far;
            Enqueued::Present
        } else {
            let job = ModelJob { lane, far, leased: false, token: None, unsettled: Vec::new() };
            self.jobs.insert(id, job);
            Enqueued::Queued
        };
        same("enqueue", &self.bench.enqueue(&new).await, &expected)
    }

    async fn claim(&mut self, room: u32) -> Result<(), String> {
        let claim = wish(room);
        let leases = self.bench.claim(&claim).await;
        if leases.len() > room as usize {
            return Err(format!("{} leases for room {room}", leases.len()));
        }
        for lease in leases {
            let job = self.jobs.get_mut(&lease.id).ok_or("a lease of a job that is not there")?;
            let lane = self.lanes.get_mut(&job.lane).ok_or("a job of no lane")?;
            if job.leased || job.far || lane.held || (lane.parked && F::MOVES_TIME) {
                return Err(format!("{} was not to be served: {job:?} in {lane:?}", lease.id));
            }
            if lane.in_flight >= limit(LIMIT, lane.health.strikes) {
                return Err(format!("over the limit: {lane:?}"));
            }
            lane.in_flight += 1;
            job.unsettled.extend(job.token.replace(claim.id));
            job.leased = true;
            let mut unsettled = lease.unsettled.clone();
            unsettled.sort_unstable();
            same("unsettled", &unsettled, &job.unsettled)?;
            same("token", &lease.token, &claim.id)?;
            same("class", &lease.class, &lane.health.class())?;
            same("mark", &lease.mark, &lane.health.mark)?;
            same("version", &lease.lane_version, &lane.version)?;
        }
        Ok(())
    }

    /// One of the jobs with a token that is good; any, when there is none.
    fn claimed(&self, job: usize) -> DeliveryId {
        let claimed: Vec<DeliveryId> =
            self.jobs.iter().filter(|(_, job)| job.token.is_some()).map(|(id, _)| *id).collect();
        if claimed.is_empty() { self.ids[job] } else { claimed[job % claimed.len()] }
    }

    async fn settle(
        &mut self,
        job: usize,
        verdict: Verdict,
        effect: Effect,
        stale: bool,
    ) -> Result<(), String> {
        let id = self.claimed(job);
        let token = self.jobs.get(&id).and_then(|job| job.token);
        let mark = self.jobs.get(&id).map_or(0, |job| self.lanes[&job.lane].health.mark);
        let settle =
            Settle { id, token: token.filter(|_| !stale).unwrap_or_else(Token::new), verdict, effect, mark };
        let answer = self.bench.queue.settle(&[settle]).await.unwrap();
        let Some(job) = self.jobs.get_mut(&id).filter(|_| !stale && token.is_some()) else {
            return same("settle", &answer.as_slice(), &[Settled::Stale].as_slice());
        };
        let lane = self.lanes.get_mut(&job.lane).ok_or("a job of no lane")?;
        lane.in_flight -= u32::from(job.leased);
        lane.parked |= lane.health.take(effect, mark).is_some();
        let strikes = lane.health.strikes;
        (job.token, job.leased) = (None, false);
        match verdict {
            Verdict::Done => {
                self.jobs.remove(&id);
            }
            Verdict::RetryAfter(wait) => {
                job.far = wait == FAR;
                job.unsettled.clear();
            }
            Verdict::Release => job.far = false,
        }
        same("settle", &answer.as_slice(), &[Settled::Settled { strikes }].as_slice())
    }

    async fn extend(&mut self, job: usize, stale: bool) -> Result<(), String> {
        let id = self.claimed(job);
        let Some((token, leased)) = self.jobs.get(&id).and_then(|job| Some((job.token?, job.leased))) else {
            return Ok(());
        };
        if !leased {
            // What a renewal of a lapsed lease answers is a case of its own.
            return Ok(());
        }
        let token = if stale { Token::new() } else { token };
        let answer = self.bench.queue.extend(&[(id, token)], LONG).await.unwrap();
        same("extend", &answer.as_slice(), &[!stale].as_slice())
    }

    async fn remove(&mut self, job: usize) {
        let id = self.ids[job];
        self.bench.queue.remove(&[id]).await.unwrap();
        if let Some(job) = self.jobs.remove(&id)
            && let Some(lane) = self.lanes.get_mut(&job.lane)
        {
            lane.in_flight -= u32::from(job.leased);
        }
    }

    async fn hold(&mut self, lane: usize, hold: bool) {
        let id = self.lane_ids[lane];
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.version += 1;
        lane.held = hold;
        let hold = hold.then_some(Hold::Paused);
        self.bench.push(LaneSettings { lane: id, version: lane.version, hold, ..settings() }).await;
    }

    /// All leases run out, and every parking ends.
    async fn lapse(&mut self) {
        if !F::MOVES_TIME {
            return;
        }
        self.bench.fixture.advance(LONG).await;
        for job in self.jobs.values_mut().filter(|job| job.leased) {
            job.leased = false;
            if let Some(lane) = self.lanes.get_mut(&job.lane) {
                lane.in_flight -= 1;
            }
        }
        self.lanes.values_mut().for_each(|lane| lane.parked = false);
    }

    async fn compare(&self) -> Result<(), String> {
        let states = self.bench.queue.lane_states(&self.lane_ids).await.unwrap();
        for (id, state) in self.lane_ids.iter().zip(states) {
            let (lane, state) = (&self.lanes[id], state.ok_or("a lane was forgotten")?);
            same("in flight", &state.in_flight, &lane.in_flight)?;
            same("health", &state.health, &lane.health)?;
            same("version", &state.version, &lane.version)?;
            same("hold", &state.hold.is_some(), &lane.held)?;
        }
        Ok(())
    }

    /// Everything that is due comes out, and then nothing is left.
    async fn drain(mut self) {
        for lane in 0..LANES {
            self.hold(lane, false).await;
        }
        self.jobs.retain(|_, job| !job.far || job.leased);
        let leased: Vec<DeliveryId> =
            self.jobs.iter().filter(|(_, job)| job.leased).map(|(id, _)| *id).collect();
        self.bench.queue.remove(&leased).await.unwrap();
        self.jobs.retain(|_, job| !job.leased);
        // The longest parking that strikes lead to.
        self.bench.fixture.advance(Duration::from_secs(31)).await;
        while !self.jobs.is_empty() {
            let lease = self.bench.take(1).await.remove(0);
            assert!(self.jobs.remove(&lease.id).is_some(), "a job that was not owed");
            self.bench.settle(&lease, Verdict::Done, Effect::Fast).await;
        }
        self.bench.none("everything came out").await;
        self.bench.queue.remove(&self.ids).await.unwrap();
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, is: &T, should: &T) -> Result<(), String> {
    if is == should { Ok(()) } else { Err(format!("{what} is {is:?} and should be {should:?}")) }
}
