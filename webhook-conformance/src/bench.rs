//! What the cases of queues do again and again.

use std::sync::Arc;
use std::time::Duration;

use webhook_core::id::{DeliveryId, LaneId, Token, WorkerId};
use webhook_core::lane::{Effect, Room};
use webhook_core::queue::{
    Claim, Enqueued, HandOff, JobQueue, LaneSettings, LaneState, Lease, NewJob, Settle, Settled, Verdict,
};

use crate::{Fixture, QueueFixture};

/// A lease that does not run out within a case.
pub(crate) const LONG: Duration = Duration::from_secs(3600);
/// The limit of lanes that name none.
pub(crate) const LIMIT: u32 = 64;
/// A claim may come back empty although something is due; so often it is repeated before that is a failure.
pub(crate) const TRIES: usize = 20;

pub(crate) struct Bench<'a, F> {
    pub(crate) fixture: &'a F,
    pub(crate) queue: Arc<dyn JobQueue>,
}

impl<'a, F: QueueFixture> Bench<'a, F> {
    pub(crate) fn new(fixture: &'a F) -> Self {
        Self { fixture, queue: fixture.queue() }
    }

    /// Lets so many units pass.
    pub(crate) async fn pass(&self, units: u32) {
        self.fixture.advance(<F as Fixture>::UNIT * units).await;
    }

    // Lanes

    /// A lane that nobody has heard from, with settings at version 1.
    pub(crate) async fn lane(&self) -> LaneId {
        let settings = settings();
        self.queue.lanes(std::slice::from_ref(&settings)).await.unwrap();
        settings.lane
    }

    pub(crate) async fn push(&self, settings: LaneSettings) -> LaneId {
        self.queue.lanes(std::slice::from_ref(&settings)).await.unwrap();
        settings.lane
    }

    /// A lane without strikes: three attempts were answered fast.
    pub(crate) async fn good_lane(&self) -> LaneId {
        let lane = self.lane().await;
        self.prove(lane).await;
        lane
    }

    pub(crate) async fn prove(&self, lane: LaneId) {
        for _ in 0..3 {
            self.attempt(lane, Effect::Fast).await;
        }
        assert_eq!(self.state(lane).await.health.strikes, 0, "three fast answers prove a lane");
    }

    /// Adds a job, claims it and settles it with this effect. Returns the lane's strikes.
    pub(crate) async fn attempt(&self, lane: LaneId, effect: Effect) -> u8 {
        let id = self.add(lane).await;
        let lease = self.one(id).await;
        match self.settle(&lease, Verdict::Done, effect).await {
            Settled::Settled { strikes } => strikes,
            Settled::Stale => panic!("the settle of a live lease was stale"),
        }
    }

    pub(crate) async fn state(&self, lane: LaneId) -> LaneState {
        let states = self.queue.lane_states(&[lane]).await.unwrap();
        states.into_iter().next().flatten().expect("the queue knows a lane whose settings it was given")
    }

    // Jobs

    /// Adds a job that is due now.
    pub(crate) async fn add(&self, lane: LaneId) -> DeliveryId {
        self.add_in(lane, Duration::ZERO).await
    }

    pub(crate) async fn add_in(&self, lane: LaneId, wait: Duration) -> DeliveryId {
        let job = NewJob { wait, ..job(lane) };
        assert_eq!(self.enqueue(&job).await, Enqueued::Queued);
        job.id
    }

    /// Adds jobs that are due now, in one call.
    pub(crate) async fn add_many(&self, lane: LaneId, count: usize) -> Vec<DeliveryId> {
        let jobs: Vec<NewJob> = (0..count).map(|_| job(lane)).collect();
        let answers = self.queue.enqueue(&jobs, None).await.unwrap();
        assert_eq!(answers, vec![Enqueued::Queued; count]);
        jobs.into_iter().map(|job| job.id).collect()
    }

    pub(crate) async fn enqueue(&self, job: &NewJob) -> Enqueued {
        self.enqueue_for(job, None).await
    }

    pub(crate) async fn enqueue_for(&self, job: &NewJob, hand_off: Option<&HandOff>) -> Enqueued {
        let answers = self.queue.enqueue(std::slice::from_ref(job), hand_off).await.unwrap();
        assert_eq!(answers.len(), 1, "one answer for one job");
        answers.into_iter().next().unwrap()
    }

    // Leases

    /// One claim.
    pub(crate) async fn claim(&self, claim: &Claim) -> Vec<Lease> {
        self.queue.claim(claim).await.unwrap()
    }

    /// Claims until there are `count` leases, each taken in a claim of its own id.
    pub(crate) async fn take(&self, count: usize) -> Vec<Lease> {
        self.take_for(count, LONG).await
    }

    pub(crate) async fn take_for(&self, count: usize, lease: Duration) -> Vec<Lease> {
        let mut leases = Vec::new();
        for _ in 0..TRIES {
            let room = u32::try_from(count - leases.len()).unwrap();
            leases.extend(self.claim(&Claim { lease, ..wish(room) }).await);
            if leases.len() >= count {
                break;
            }
        }
        assert_eq!(leases.len(), count, "so many jobs are due in lanes that may be served");
        leases
    }

    /// Claims what must be this one job.
    pub(crate) async fn one(&self, id: DeliveryId) -> Lease {
        self.one_for(id, LONG).await
    }

    pub(crate) async fn one_for(&self, id: DeliveryId, lease: Duration) -> Lease {
        let leases = self.take_for(1, lease).await;
        assert_eq!(leases[0].id, id);
        leases.into_iter().next().unwrap()
    }

    /// Nothing can be claimed.
    pub(crate) async fn none(&self, why: &str) {
        for _ in 0..3 {
            assert_eq!(self.claim(&wish(100)).await, [], "{why}");
        }
    }

    pub(crate) async fn settle(&self, lease: &Lease, verdict: Verdict, effect: Effect) -> Settled {
        self.settle_as(lease, lease.token, verdict, effect).await
    }

    pub(crate) async fn settle_as(
        &self,
        lease: &Lease,
        token: Token,
        verdict: Verdict,
        effect: Effect,
    ) -> Settled {
        let settle = Settle { id: lease.id, token, verdict, effect, mark: lease.mark };
        let answers = self.queue.settle(&[settle]).await.unwrap();
        assert_eq!(answers.len(), 1, "one answer for one item");
        answers[0]
    }

    pub(crate) async fn done(&self, lease: &Lease) {
        let answer = self.settle(lease, Verdict::Done, Effect::Neutral).await;
        assert!(matches!(answer, Settled::Settled { .. }), "a live lease settles");
    }
}

/// Settings of a new lane at version 1.
pub(crate) fn settings() -> LaneSettings {
    LaneSettings { lane: LaneId::new(), version: 1, max_in_flight: None, rate: None, hold: None }
}

/// A job that is due now.
pub(crate) fn job(lane: LaneId) -> NewJob {
    NewJob { id: DeliveryId::new(), lane, wait: Duration::ZERO, lane_version: 1, urgent: false }
}

/// A claim with this much room for jobs of any class.
pub(crate) fn wish(room: u32) -> Claim {
    Claim {
        id: Token::new(),
        worker: WorkerId::new(),
        lease: LONG,
        room: any_room(room),
        max_in_flight: LIMIT,
        avoid: Vec::new(),
    }
}

pub(crate) fn any_room(room: u32) -> Room {
    Room { all: room, doubtful: room, dead: room }
}

pub(crate) fn hand_off(room: u32) -> HandOff {
    HandOff {
        token: Token::new(),
        worker: WorkerId::new(),
        lease: LONG,
        room: any_room(room),
        max_in_flight: LIMIT,
        avoid: Vec::new(),
    }
}

pub(crate) fn ids(leases: &[Lease]) -> Vec<DeliveryId> {
    let mut ids: Vec<DeliveryId> = leases.iter().map(|lease| lease.id).collect();
    ids.sort_unstable();
    ids
}
