//! Adding jobs that no insert or record of this store adds: for those who use the queue by itself.

use std::collections::HashMap;

use webhook_core::queue::{Enqueued, HandOff, NewJob};

use super::jobs::{self, Found};
use crate::codec::micros;
use crate::error::Fault;
use crate::lanes::URGENT;
use crate::store::Desk;
use crate::writer::Tx;

pub(super) async fn enqueue(
    tx: &mut Tx<'_>,
    new: Vec<NewJob>,
    hand_off: Option<HandOff>,
) -> Result<Vec<Enqueued>, Fault> {
    tx.begin().await?;
    if let Some(hand_off) = &hand_off {
        tx.memory.use_default(hand_off.max_in_flight, tx.now);
    }
    let ids: Vec<_> = new.iter().map(|job| job.id).collect();
    let mut known: HashMap<_, Found> =
        jobs::known(tx, &ids).await?.into_iter().map(|found| (found.id, found)).collect();
    let mut desk = Desk::new(hand_off.as_ref());
    let mut earlier = HashMap::new();
    let mut answers = Vec::with_capacity(new.len());
    for job in &new {
        let version = tx.memory.lane(&job.lane).and_then(|lane| lane.durable.version);
        if version.is_none_or(|version| version < job.lane_version) {
            answers.push(Enqueued::LaneBehind);
            continue;
        }
        let due = if job.urgent { URGENT } else { tx.now.saturating_add(micros(job.wait)) };
        if let Some(found) = known.get_mut(&job.id) {
            if !found.leased && due < found.due {
                found.due = due;
                tx.memory.pending(found.lane, due);
                earlier.insert(job.id, due);
            }
            answers.push(Enqueued::Present);
            continue;
        }
        let lease = desk.take(tx, job.id, job.lane, due, false);
        known.insert(job.id, Found { id: job.id, lane: job.lane, due, leased: lease.is_some() });
        answers.push(lease.map_or(Enqueued::Queued, Enqueued::Leased));
    }
    jobs::add(tx, &desk.jobs).await?;
    jobs::hurry(tx, &earlier.into_iter().collect::<Vec<_>>()).await?;
    Ok(answers)
}
