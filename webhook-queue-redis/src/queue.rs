//! The queue's trait, one script a method.
//!
//! Calls with many items are cut into steps of [`STEP`], since the server does nothing else while a script runs.
//! Jobs are independent, so what a failure in the middle leaves is what the contract allows: every call may be
//! repeated as a whole.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use webhook_core::error::BackendError;
use webhook_core::id::{DeliveryId, LaneId, Token};
use webhook_core::lane::Room;
use webhook_core::queue::{
    Claim, Depth, Enqueued, HandOff, JobQueue, LaneSettings, LaneState, Lease, NewJob, Settle, Settled,
};

use crate::codec::{self, next};
use crate::error::Fault;
use crate::open::{Memory, RedisQueue};
use crate::script::Script;

/// Items of one run of a script.
const STEP: usize = 512;
/// The same, for claims.
const STEP_JOBS: u32 = 512;
/// Lanes that one step of [`depth`](JobQueue::depth) looks at.
const DEPTH_LANES: u32 = 256;
/// Steps of one call of it, so that it ends: a quarter of a million lanes.
const DEPTH_STEPS: usize = 1024;

#[async_trait]
impl JobQueue for RedisQueue {
    async fn enqueue(
        &self,
        jobs: &[NewJob],
        hand_off: Option<&HandOff>,
    ) -> Result<Vec<Enqueued>, BackendError> {
        let mut room = hand_off.map_or_else(Room::default, |to| to.room);
        let mut answers = Vec::with_capacity(jobs.len());
        for jobs in jobs.chunks(STEP) {
            let step =
                self.enqueue_step(jobs, hand_off, &room).await.map_err(|fault| fault.during("enqueue"))?;
            for answer in &step {
                if let Enqueued::Leased(lease) = answer {
                    room.take(lease.class, 1);
                }
            }
            answers.extend(step);
        }
        Ok(answers)
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Lease>, BackendError> {
        let mark = self.bell.mark();
        let (wait, leases) = self.claim_step(claim).await.map_err(|fault| fault.during("claim"))?;
        self.bell.claimed(mark, wait);
        Ok(leases)
    }

    async fn settle(&self, jobs: &[Settle]) -> Result<Vec<Settled>, BackendError> {
        let mut answers = Vec::with_capacity(jobs.len());
        for jobs in jobs.chunks(STEP) {
            let strikes = self.settle_step(jobs).await.map_err(|fault| fault.during("settle"))?;
            answers.extend(strikes.iter().map(|strikes| codec::settled(*strikes)));
        }
        Ok(answers)
    }

    async fn extend(
        &self,
        leases: &[(DeliveryId, Token)],
        lease: Duration,
    ) -> Result<Vec<bool>, BackendError> {
        let mut answers = Vec::with_capacity(leases.len());
        for leases in leases.chunks(STEP) {
            let mut args = vec![codec::text(codec::micros(lease))];
            args.extend(leases.iter().map(|(id, token)| codec::held(*id, *token)));
            let letters = self.letters(Script::Extend, args, leases.len()).await;
            let letters = letters.map_err(|fault| fault.during("extend"))?;
            answers.extend(letters.iter().map(|letter| *letter == b'1'));
        }
        Ok(answers)
    }

    async fn remove(&self, ids: &[DeliveryId]) -> Result<(), BackendError> {
        for ids in ids.chunks(STEP) {
            let args = ids.iter().map(|id| codec::id_bytes(id.as_bytes())).collect();
            self.run(Script::Remove, args).await.map_err(|fault| fault.during("remove"))?;
        }
        Ok(())
    }

    async fn lanes(&self, settings: &[LaneSettings]) -> Result<(), BackendError> {
        for settings in settings.chunks(STEP) {
            let args = settings.iter().map(codec::settings).collect();
            self.run(Script::Lanes, args).await.map_err(|fault| fault.during("lanes"))?;
        }
        Ok(())
    }

    async fn lane_states(&self, lanes: &[LaneId]) -> Result<Vec<Option<LaneState>>, BackendError> {
        let mut states = Vec::with_capacity(lanes.len());
        for lanes in lanes.chunks(STEP) {
            let step = self.states_step(lanes).await.map_err(|fault| fault.during("lane_states"))?;
            states.extend(step);
        }
        Ok(states)
    }

    /// Ends when a script rang the bell or when something can be served by time, as the last claim told. While
    /// lanes were passed over, for want of room or because the claim avoided them, it returns after 20 ms; while
    /// the connection that hears the bell is lost, after 250 ms.
    async fn wait(&self, timeout: Duration) {
        self.bell.wait(timeout).await;
    }

    /// Looks at all lanes in steps, so it is not one moment's truth. Sizes are exact at each lane's moment, up to
    /// a quarter of a million lanes; one that is added meanwhile may be missed, or counted twice.
    async fn depth(&self) -> Result<Depth, BackendError> {
        let mut depth = Depth::default();
        let mut cursor = Bytes::from_static(b"0");
        for _ in 0..DEPTH_STEPS {
            cursor = self.depth_step(cursor, &mut depth).await.map_err(|fault| fault.during("depth"))?;
            if cursor == "0" {
                break;
            }
        }
        Ok(depth)
    }

    /// Another number after a flush, a start without data, and a failover or restore that undid what this process
    /// has seen done. See [`RedisQueue`].
    async fn epoch(&self) -> Result<u64, BackendError> {
        self.current_epoch().await.map_err(|fault| fault.during("epoch"))
    }
}

impl RedisQueue {
    async fn enqueue_step(
        &self,
        jobs: &[NewJob],
        to: Option<&HandOff>,
        room: &Room,
    ) -> Result<Vec<Enqueued>, Fault> {
        let mut args = Vec::with_capacity(jobs.len() + 2);
        args.extend(codec::hand_off(to, room));
        args.extend(jobs.iter().map(codec::new_job));
        let before = self.memory();
        let answer = self.run(Script::Enqueue, args).await?;
        let mut items = answer.reply.list()?.into_iter();
        self.saw(before, next(&mut items)?.count()?);
        let letters = next(&mut items)?.bytes()?;
        if letters.len() != jobs.len() {
            return Err(Fault::reply());
        }
        codec::enqueued(&letters, &mut items, to, answer.repeated)
    }

    async fn claim_step(&self, claim: &Claim) -> Result<(Option<Duration>, Vec<Lease>), Fault> {
        let before = self.memory();
        let answer = self.run(Script::Claim, codec::claim(claim, STEP_JOBS)).await?;
        let mut items = answer.reply.list()?.into_iter();
        let wait = u64::try_from(next(&mut items)?.int()?).ok().map(Duration::from_micros);
        self.saw(before, next(&mut items)?.count()?);
        let leases = items.map(|item| codec::lease(&item.bytes()?, claim.id)).collect::<Result<_, _>>()?;
        Ok((wait, leases))
    }

    async fn settle_step(&self, jobs: &[Settle]) -> Result<Bytes, Fault> {
        let args = jobs.iter().map(codec::settle).collect();
        let before = self.memory();
        let mut items = self.run(Script::Settle, args).await?.reply.list()?.into_iter();
        self.saw(before, next(&mut items)?.count()?);
        let strikes = next(&mut items)?.bytes()?;
        if strikes.len() == jobs.len() { Ok(strikes) } else { Err(Fault::reply()) }
    }

    async fn letters(&self, script: Script, args: Vec<Bytes>, count: usize) -> Result<Bytes, Fault> {
        let letters = self.run(script, args).await?.reply.bytes()?;
        if letters.len() == count { Ok(letters) } else { Err(Fault::reply()) }
    }

    async fn states_step(&self, lanes: &[LaneId]) -> Result<Vec<Option<LaneState>>, Fault> {
        let args = lanes.iter().map(|lane| codec::id_bytes(lane.as_bytes())).collect();
        let mut items = self.run(Script::LaneStates, args).await?.reply.list()?.into_iter();
        let now = next(&mut items)?.int()?;
        let mut states = Vec::with_capacity(lanes.len());
        for item in items {
            states.push(match item {
                crate::client::Reply::Nothing => None,
                item => Some(codec::lane_state(&item.bytes()?, now)?),
            });
        }
        // Lua ends a list at its last value: unknown lanes at the end may be missing.
        states.resize(lanes.len(), None);
        Ok(states)
    }

    async fn depth_step(&self, cursor: Bytes, depth: &mut Depth) -> Result<Bytes, Fault> {
        let args = vec![cursor, codec::text(DEPTH_LANES)];
        let mut items = self.run(Script::Depth, args).await?.reply.list()?.into_iter();
        let cursor = next(&mut items)?.bytes()?;
        depth.due += next(&mut items)?.count()?;
        depth.scheduled += next(&mut items)?.count()?;
        let age = u64::try_from(next(&mut items)?.int()?).ok().map(Duration::from_micros);
        depth.oldest_due = depth.oldest_due.max(age);
        for count in [&mut depth.paused, &mut depth.disabled, &mut depth.parked, &mut depth.rate_limited] {
            *count += next(&mut items)?.count()?;
        }
        Ok(cursor)
    }

    async fn current_epoch(&self) -> Result<u64, Fault> {
        self.check_again().await?;
        let Memory { epoch, count, undone } = self.memory();
        let args = vec![codec::text(epoch), codec::text(count), codec::text(u8::from(undone))];
        let items = self.run(Script::Epoch, args).await?.reply.list()?;
        let [epoch, count] = items.as_slice() else { return Err(Fault::reply()) };
        let epoch = epoch.count()?;
        self.remember(epoch, count.count()?);
        Ok(epoch)
    }
}
