//! Broken queues.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use webhook_conformance::{Fixture, Missing, QueueFixture};
use webhook_core::error::BackendError;
use webhook_core::id::{DeliveryId, LaneId, Token};
use webhook_core::lane::Room;
use webhook_core::memory::MemoryQueue;
use webhook_core::queue::{
    Claim, Depth, Enqueued, HandOff, JobQueue, LaneSettings, LaneState, Lease, NewJob, Settle, Settled,
    Verdict,
};
use webhook_core::testing::TokioClock;

type Answer<T> = Result<T, BackendError>;

/// One bent method of the queue; the others are the reference's.
#[async_trait]
trait Defect: Debug + Default + Send + Sync + 'static {
    async fn enqueue(
        &self,
        queue: &MemoryQueue,
        jobs: &[NewJob],
        to: Option<&HandOff>,
    ) -> Answer<Vec<Enqueued>> {
        queue.enqueue(jobs, to).await
    }
    async fn claim(&self, queue: &MemoryQueue, claim: &Claim) -> Answer<Vec<Lease>> {
        queue.claim(claim).await
    }
    async fn settle(&self, queue: &MemoryQueue, jobs: &[Settle]) -> Answer<Vec<Settled>> {
        queue.settle(jobs).await
    }
    async fn extend(
        &self,
        queue: &MemoryQueue,
        leases: &[(DeliveryId, Token)],
        lease: Duration,
    ) -> Answer<Vec<bool>> {
        queue.extend(leases, lease).await
    }
    async fn remove(&self, queue: &MemoryQueue, ids: &[DeliveryId]) -> Answer<()> {
        queue.remove(ids).await
    }
    async fn lanes(&self, queue: &MemoryQueue, settings: &[LaneSettings]) -> Answer<()> {
        queue.lanes(settings).await
    }
    async fn wait(&self, queue: &MemoryQueue, timeout: Duration) {
        queue.wait(timeout).await;
    }
    async fn depth(&self, queue: &MemoryQueue) -> Answer<Depth> {
        queue.depth().await
    }
    async fn epoch(&self, queue: &MemoryQueue) -> Answer<u64> {
        queue.epoch().await
    }
}

#[derive(Debug)]
struct Bent<D> {
    queue: MemoryQueue,
    defect: D,
}

#[async_trait]
impl<D: Defect> JobQueue for Bent<D> {
    async fn enqueue(&self, jobs: &[NewJob], hand_off: Option<&HandOff>) -> Answer<Vec<Enqueued>> {
        self.defect.enqueue(&self.queue, jobs, hand_off).await
    }
    async fn claim(&self, claim: &Claim) -> Answer<Vec<Lease>> {
        self.defect.claim(&self.queue, claim).await
    }
    async fn settle(&self, jobs: &[Settle]) -> Answer<Vec<Settled>> {
        self.defect.settle(&self.queue, jobs).await
    }
    async fn extend(&self, leases: &[(DeliveryId, Token)], lease: Duration) -> Answer<Vec<bool>> {
        self.defect.extend(&self.queue, leases, lease).await
    }
    async fn remove(&self, ids: &[DeliveryId]) -> Answer<()> {
        self.defect.remove(&self.queue, ids).await
    }
    async fn lanes(&self, settings: &[LaneSettings]) -> Answer<()> {
        self.defect.lanes(&self.queue, settings).await
    }
    async fn lane_states(&self, lanes: &[LaneId]) -> Answer<Vec<Option<LaneState>>> {
        self.queue.lane_states(lanes).await
    }
    async fn wait(&self, timeout: Duration) {
        self.defect.wait(&self.queue, timeout).await;
    }
    async fn depth(&self) -> Answer<Depth> {
        self.defect.depth(&self.queue).await
    }
    async fn epoch(&self) -> Answer<u64> {
        self.defect.epoch(&self.queue).await
    }
}

struct Broken<D>(Arc<Bent<D>>);

impl<D: Defect> Fixture for Broken<D> {
    async fn create() -> Result<Self, Missing> {
        tokio::time::pause();
        let queue = MemoryQueue::with_clock(Arc::new(TokioClock::new()));
        Ok(Self(Arc::new(Bent { queue, defect: D::default() })))
    }
    async fn advance(&self, span: Duration) {
        tokio::time::advance(span).await;
    }
}

impl<D: Defect> QueueFixture for Broken<D> {
    fn queue(&self) -> Arc<dyn JobQueue> {
        self.0.clone()
    }
}

/// A defect with nothing to remember that bends one method.
macro_rules! bend {
    ($name:ident: $($method:tt)*) => {
        #[derive(Debug, Default)]
        struct $name;

        #[async_trait]
        impl Defect for $name {
            $($method)*
        }
    };
}

#[derive(Debug, Default)]
struct IgnoresTokens(Mutex<HashMap<DeliveryId, Token>>);

#[async_trait]
impl Defect for IgnoresTokens {
    async fn claim(&self, queue: &MemoryQueue, claim: &Claim) -> Answer<Vec<Lease>> {
        let leases = queue.claim(claim).await?;
        self.0.lock().unwrap().extend(leases.iter().map(|lease| (lease.id, lease.token)));
        Ok(leases)
    }
    async fn settle(&self, queue: &MemoryQueue, jobs: &[Settle]) -> Answer<Vec<Settled>> {
        let live = |job: &Settle| *self.0.lock().unwrap().get(&job.id).unwrap_or(&job.token);
        let jobs: Vec<Settle> = jobs.iter().map(|job| Settle { token: live(job), ..job.clone() }).collect();
        queue.settle(&jobs).await
    }
}

#[derive(Debug, Default)]
struct ClaimsTwice(Mutex<Vec<Lease>>);

#[async_trait]
impl Defect for ClaimsTwice {
    async fn claim(&self, queue: &MemoryQueue, claim: &Claim) -> Answer<Vec<Lease>> {
        let leases = queue.claim(claim).await?;
        let mut before = self.0.lock().unwrap();
        let again = before.pop().into_iter().filter(|_| leases.is_empty() && claim.room.all > 0);
        let given: Vec<Lease> = again.map(|lease| Lease { token: claim.id, ..lease }).collect();
        before.extend(leases.iter().cloned());
        Ok(if leases.is_empty() { given } else { leases })
    }
}

bend! { ReordersAnswers:
    async fn enqueue(&self, queue: &MemoryQueue, jobs: &[NewJob], to: Option<&HandOff>) -> Answer<Vec<Enqueued>> {
        queue.enqueue(jobs, to).await.map(|answers| answers.into_iter().rev().collect())
    }
}

bend! { DropsTheLastJob:
    async fn enqueue(&self, queue: &MemoryQueue, jobs: &[NewJob], to: Option<&HandOff>) -> Answer<Vec<Enqueued>> {
        let Some((_, others)) = jobs.split_last().filter(|(_, others)| !others.is_empty()) else {
            return queue.enqueue(jobs, to).await;
        };
        let mut answers = queue.enqueue(others, to).await?;
        answers.push(Enqueued::Queued);
        Ok(answers)
    }
}

bend! { LeavesAnIndex:
    async fn settle(&self, queue: &MemoryQueue, jobs: &[Settle]) -> Answer<Vec<Settled>> {
        let left = |job: &Settle| match job.verdict {
            Verdict::Done => Settle { verdict: Verdict::RetryAfter(Duration::from_secs(60)), ..job.clone() },
            Verdict::RetryAfter(_) | Verdict::Release => job.clone(),
        };
        queue.settle(&jobs.iter().map(left).collect::<Vec<_>>()).await
    }
}

bend! { CutsLeasesShort:
    async fn claim(&self, queue: &MemoryQueue, claim: &Claim) -> Answer<Vec<Lease>> {
        let lease = claim.lease.saturating_sub(Duration::from_secs(1)).max(Duration::from_millis(1));
        queue.claim(&Claim { lease, ..claim.clone() }).await
    }
}

bend! { ForgetsPauses:
    async fn lanes(&self, queue: &MemoryQueue, settings: &[LaneSettings]) -> Answer<()> {
        let forget = |lane: &LaneSettings| LaneSettings { hold: None, ..lane.clone() };
        queue.lanes(&settings.iter().map(forget).collect::<Vec<_>>()).await
    }
}

bend! { TakesOlderSettings:
    async fn lanes(&self, queue: &MemoryQueue, settings: &[LaneSettings]) -> Answer<()> {
        for lane in settings {
            let known = queue.lane_states(&[lane.lane]).await?.remove(0).map_or(0, |state| state.version);
            queue.lanes(&[LaneSettings { version: lane.version.max(known), ..lane.clone() }]).await?;
        }
        Ok(())
    }
}

/// Each call is a claim of its own, which the caller cannot tell.
#[derive(Debug, Default)]
struct ClaimsAnewOnARepeat(Mutex<HashMap<DeliveryId, Token>>);

#[async_trait]
impl Defect for ClaimsAnewOnARepeat {
    async fn claim(&self, queue: &MemoryQueue, claim: &Claim) -> Answer<Vec<Lease>> {
        let leases = queue.claim(&Claim { id: Token::new(), ..claim.clone() }).await?;
        self.0.lock().unwrap().extend(leases.iter().map(|lease| (lease.id, lease.token)));
        Ok(leases.into_iter().map(|lease| Lease { token: claim.id, ..lease }).collect())
    }
    async fn settle(&self, queue: &MemoryQueue, jobs: &[Settle]) -> Answer<Vec<Settled>> {
        let inner = |job: &Settle| *self.0.lock().unwrap().get(&job.id).unwrap_or(&job.token);
        let jobs: Vec<Settle> = jobs.iter().map(|job| Settle { token: inner(job), ..job.clone() }).collect();
        queue.settle(&jobs).await
    }
}

bend! { ForgetsUnsettledTokens:
    async fn claim(&self, queue: &MemoryQueue, claim: &Claim) -> Answer<Vec<Lease>> {
        let leases = queue.claim(claim).await?;
        Ok(leases.into_iter().map(|lease| Lease { unsettled: Vec::new(), ..lease }).collect())
    }
}

bend! { ServesEarly:
    async fn enqueue(&self, queue: &MemoryQueue, jobs: &[NewJob], to: Option<&HandOff>) -> Answer<Vec<Enqueued>> {
        let early = |job: &NewJob| NewJob { wait: job.wait / 2, ..job.clone() };
        queue.enqueue(&jobs.iter().map(early).collect::<Vec<_>>(), to).await
    }
}

bend! { RetriesEarly:
    async fn settle(&self, queue: &MemoryQueue, jobs: &[Settle]) -> Answer<Vec<Settled>> {
        let early = |job: &Settle| match job.verdict {
            Verdict::RetryAfter(wait) => Settle { verdict: Verdict::RetryAfter(wait / 2), ..job.clone() },
            Verdict::Done | Verdict::Release => job.clone(),
        };
        queue.settle(&jobs.iter().map(early).collect::<Vec<_>>()).await
    }
}

bend! { LeaksTheCountOnRemove:
    async fn remove(&self, queue: &MemoryQueue, ids: &[DeliveryId]) -> Answer<()> {
        // What is left behind counts as in flight until its lease runs out.
        queue.remove(&ids[ids.len().min(1)..]).await
    }
}

bend! { IgnoresUrgency:
    async fn enqueue(&self, queue: &MemoryQueue, jobs: &[NewJob], to: Option<&HandOff>) -> Answer<Vec<Enqueued>> {
        let calm = |job: &NewJob| NewJob { urgent: false, ..job.clone() };
        queue.enqueue(&jobs.iter().map(calm).collect::<Vec<_>>(), to).await
    }
}

bend! { IgnoresLanesToAvoid:
    async fn claim(&self, queue: &MemoryQueue, claim: &Claim) -> Answer<Vec<Lease>> {
        queue.claim(&Claim { avoid: Vec::new(), ..claim.clone() }).await
    }
}

bend! { IgnoresShares:
    async fn claim(&self, queue: &MemoryQueue, claim: &Claim) -> Answer<Vec<Lease>> {
        let all = claim.room.all;
        queue.claim(&Claim { room: Room { all, doubtful: all, dead: all }, ..claim.clone() }).await
    }
}

bend! { CountsEveryTimeOut:
    async fn settle(&self, queue: &MemoryQueue, jobs: &[Settle]) -> Answer<Vec<Settled>> {
        // Any mark counts: whatever it is, it is made the present one.
        let mut answers = Vec::new();
        for job in jobs {
            let mut marked = job.clone();
            while marked.mark < 1_000 && !would_count(queue, &marked).await? {
                marked.mark += 1;
            }
            answers.extend(queue.settle(&[marked]).await?);
        }
        Ok(answers)
    }
}

/// Whether the mark is that of the lane of some known job; asked of the leases that are out.
async fn would_count(queue: &MemoryQueue, settle: &Settle) -> Answer<bool> {
    let probe = Claim {
        id: settle.token,
        worker: webhook_core::id::WorkerId::new(),
        lease: Duration::from_secs(1),
        room: Room::default(),
        max_in_flight: 1,
        avoid: Vec::new(),
    };
    let held = queue.claim(&probe).await?;
    Ok(held.iter().find(|lease| lease.id == settle.id).is_none_or(|lease| lease.mark == settle.mark))
}

bend! { IgnoresLaneVersions:
    async fn enqueue(&self, queue: &MemoryQueue, jobs: &[NewJob], to: Option<&HandOff>) -> Answer<Vec<Enqueued>> {
        let any = |job: &NewJob| NewJob { lane_version: 0, ..job.clone() };
        queue.enqueue(&jobs.iter().map(any).collect::<Vec<_>>(), to).await
    }
}

bend! { KeepsRenewedLeasesShort:
    async fn extend(&self, queue: &MemoryQueue, leases: &[(DeliveryId, Token)], _: Duration) -> Answer<Vec<bool>> {
        queue.extend(leases, Duration::from_millis(1)).await
    }
}

bend! { ExtendsForAnybody:
    async fn extend(&self, queue: &MemoryQueue, leases: &[(DeliveryId, Token)], lease: Duration) -> Answer<Vec<bool>> {
        queue.extend(leases, lease).await.map(|answers| vec![true; answers.len()])
    }
}

bend! { SleepsThroughNewJobs:
    async fn wait(&self, _: &MemoryQueue, timeout: Duration) {
        tokio::time::sleep(timeout).await; // verify: allow(sleep): the flaw itself
    }
}

bend! { CountsHeldJobsAsDue:
    async fn depth(&self, queue: &MemoryQueue) -> Answer<Depth> {
        let depth = queue.depth().await?;
        Ok(Depth { due: depth.due + depth.paused + depth.disabled, ..depth })
    }
}

/// The most common mistake of a wake-up: only changes during the wait are heard.
#[derive(Debug, Default)]
struct LosesAWakeUp(tokio::sync::Notify);

#[async_trait]
impl Defect for LosesAWakeUp {
    async fn enqueue(
        &self,
        queue: &MemoryQueue,
        jobs: &[NewJob],
        to: Option<&HandOff>,
    ) -> Answer<Vec<Enqueued>> {
        let answers = queue.enqueue(jobs, to).await;
        self.0.notify_waiters();
        answers
    }
    async fn wait(&self, _: &MemoryQueue, timeout: Duration) {
        let _ = tokio::time::timeout(timeout, self.0.notified()).await;
    }
}

/// The lane that was served last is served again while it has jobs.
#[derive(Debug, Default)]
struct ServesOneLaneOnly(Mutex<Option<LaneId>>);

#[async_trait]
impl Defect for ServesOneLaneOnly {
    async fn claim(&self, queue: &MemoryQueue, claim: &Claim) -> Answer<Vec<Lease>> {
        let favourite = *self.0.lock().unwrap();
        let mut leases = Vec::new();
        if let Some(favourite) = favourite {
            let mut others: Vec<LaneId> = Vec::new();
            while leases.is_empty() {
                let avoid = [claim.avoid.as_slice(), others.as_slice()].concat();
                let more = queue.claim(&Claim { avoid, ..claim.clone() }).await?;
                if more.is_empty() {
                    break;
                }
                if let Some(other) = more.iter().find(|lease| lease.lane != favourite) {
                    others.push(other.lane);
                    let release = |lease: &Lease| Settle {
                        id: lease.id,
                        token: lease.token,
                        verdict: Verdict::Release,
                        effect: webhook_core::lane::Effect::Neutral,
                        mark: lease.mark,
                    };
                    queue.settle(&more.iter().map(release).collect::<Vec<_>>()).await?;
                } else {
                    leases = more;
                }
            }
        }
        if leases.is_empty() {
            leases = queue.claim(claim).await?;
        }
        if let Some(lease) = leases.first() {
            *self.0.lock().unwrap() = Some(lease.lane);
        }
        Ok(leases)
    }
}

bend! { ForgetsItsEpoch:
    async fn epoch(&self, _: &MemoryQueue) -> Answer<u64> {
        Ok(u64::from(Token::new().as_bytes()[15]) + u64::from(Token::new().as_bytes()[14]) * 256)
    }
}

crate::defects! { Broken, queue;
    ignores_tokens: IgnoresTokens => fences::settle_with_a_stale_token_changes_nothing;
    claims_twice: ClaimsTwice => contract::a_job_is_claimed_once;
    reorders_answers: ReordersAnswers => contract::answers_come_in_input_order;
    drops_the_last_job: DropsTheLastJob => contract::every_job_of_a_batch_is_kept;
    settle_leaves_an_index: LeavesAnIndex => contract::a_finished_job_is_nowhere;
    cuts_leases_short: CutsLeasesShort => time::a_lease_holds_for_its_whole_time;
    forgets_pauses: ForgetsPauses => lanes::a_held_lane_is_not_served_until_it_is_resumed;
    takes_older_settings: TakesOlderSettings => lanes::older_settings_change_nothing;
    claims_anew_on_a_repeat: ClaimsAnewOnARepeat => contract::a_repeated_claim_gives_the_same_leases;
    forgets_unsettled_tokens: ForgetsUnsettledTokens => time::a_lapsed_lease_is_claimed_again_and_its_token_is_unsettled;
    serves_early: ServesEarly => time::a_job_is_never_claimed_early;
    retries_early: RetriesEarly => time::a_retry_is_never_claimed_early;
    leaks_a_lanes_count_on_remove: LeaksTheCountOnRemove => contract::a_removed_job_is_nowhere;
    ignores_urgency: IgnoresUrgency => lanes::urgent_jobs_ignore_parking_and_no_other_limit;
    ignores_lanes_to_avoid: IgnoresLanesToAvoid => contract::a_claim_avoids_the_lanes_that_it_names;
    ignores_the_shares_of_classes: IgnoresShares => lanes::a_claim_keeps_to_the_shares_of_its_room;
    counts_every_time_out_of_a_blip: CountsEveryTimeOut => lanes::one_blip_of_many_time_outs_is_one_strike;
    ignores_lane_versions: IgnoresLaneVersions => contract::a_job_that_knows_newer_settings_is_not_queued;
    keeps_renewed_leases_short: KeepsRenewedLeasesShort => time::an_extended_lease_holds_on;
    extends_for_anybody: ExtendsForAnybody => fences::extend_with_a_stale_token_changes_nothing;
    sleeps_through_new_jobs: SleepsThroughNewJobs => time::a_wait_ends_when_a_job_is_added;
    loses_a_wake_up: LosesAWakeUp => time::a_wait_ends_at_once_when_a_job_came_before_it;
    counts_held_jobs_as_due: CountsHeldJobsAsDue => contract::depth_tells_due_scheduled_and_held;
    serves_one_lane_only: ServesOneLaneOnly => lanes::lanes_are_served_in_turn;
    forgets_its_epoch: ForgetsItsEpoch => contract::the_epoch_stays_while_nothing_is_lost;

    ignores_tokens_by_the_model: IgnoresTokens => model::random_calls_do_what_the_model_says;
    forgets_pauses_by_the_model: ForgetsPauses => model::random_calls_do_what_the_model_says;
    leaves_an_index_by_the_model: LeavesAnIndex => model::random_calls_do_what_the_model_says;
    forgets_unsettled_tokens_by_the_model: ForgetsUnsettledTokens => model::random_calls_do_what_the_model_says;
    leaks_a_count_by_the_model: LeaksTheCountOnRemove => model::random_calls_do_what_the_model_says;
    extends_for_anybody_by_the_model: ExtendsForAnybody => model::random_calls_do_what_the_model_says;
}
