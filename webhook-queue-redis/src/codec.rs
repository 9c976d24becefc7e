//! What the scripts are given and what they answer, byte by byte.
//!
//! The layouts are those that the scripts' first lines tell; each is named here once. Ids are their sixteen bytes.
//! Numbers that a script reckons with are doubles, as Lua's are: exact up to 2^53, which is the year 2255 in
//! microseconds. Anything larger is taken to be that.

use std::time::Duration;

use bytes::Bytes;
use webhook_core::id::{DeliveryId, LaneId, Token};
use webhook_core::lane::{Class, Effect, Health, Room};
use webhook_core::queue::{
    Claim, Enqueued, HandOff, Hold, LaneSettings, LaneState, Lease, NewJob, Settle, Settled, Verdict,
};

use crate::client::Reply;
use crate::error::Fault;

/// The greatest number that a double holds exactly with all smaller ones.
const EXACT: u64 = 1 << 53;
/// The longest wait, 126 years: added to a time of the next two centuries it is still exact.
const LONGEST: u64 = 4_000_000_000_000_000;
/// Bytes of a lease before its unsettled tokens.
const LEASE: usize = 49;

/// A wait in microseconds, rounded up: never early (promise 6).
pub(crate) fn micros(span: Duration) -> f64 {
    let micros = span.as_nanos().div_ceil(1000);
    #[allow(clippy::cast_precision_loss, reason = "bounded by 2^53")]
    let double = u64::try_from(micros).unwrap_or(LONGEST).min(LONGEST) as f64;
    double
}

fn number(number: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "bounded by 2^53")]
    let double = number.min(EXACT) as f64;
    double
}

/// The inverse of [`number`].
fn whole(double: f64) -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
    let whole = double as u64;
    if whole >= EXACT { u64::MAX } else { whole }
}

pub(crate) fn text(number: impl std::fmt::Display) -> Bytes {
    Bytes::from(format!("{number}"))
}

pub(crate) fn id_bytes(bytes: &[u8; 16]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn lanes(lanes: &[LaneId]) -> Bytes {
    lanes.iter().flat_map(|lane| *lane.as_bytes()).collect()
}

// ---------------------------------------------------------------------------------------------------------
// Arguments

pub(crate) fn new_job(job: &NewJob) -> Bytes {
    let mut item = Vec::with_capacity(49);
    item.extend_from_slice(job.id.as_bytes());
    item.extend_from_slice(job.lane.as_bytes());
    item.extend_from_slice(&micros(job.wait).to_le_bytes());
    item.extend_from_slice(&number(job.lane_version).to_le_bytes());
    item.push(u8::from(job.urgent));
    item.into()
}

/// The hand-off and the lanes that it avoids.
pub(crate) fn hand_off(to: Option<&HandOff>, room: &Room) -> [Bytes; 2] {
    let Some(to) = to else { return [Bytes::new(), Bytes::new()] };
    let mut item = Vec::with_capacity(36);
    item.extend_from_slice(to.token.as_bytes());
    item.extend_from_slice(&micros(to.lease).to_le_bytes());
    for count in [room.all, room.fits(Class::Doubtful), to.max_in_flight.max(1)] {
        item.extend_from_slice(&count.to_le_bytes());
    }
    [item.into(), lanes(&to.avoid)]
}

pub(crate) fn claim(claim: &Claim, most: u32) -> Vec<Bytes> {
    let all = claim.room.all.min(most);
    vec![
        id_bytes(claim.id.as_bytes()),
        text(micros(claim.lease)),
        text(all),
        text(claim.room.doubtful.min(all)),
        text(claim.room.dead.min(all)),
        text(claim.max_in_flight.max(1)),
        lanes(&claim.avoid),
    ]
}

pub(crate) fn settle(item: &Settle) -> Bytes {
    let (verdict, wait) = match item.verdict {
        Verdict::Done => (0, Duration::ZERO),
        Verdict::RetryAfter(wait) => (1, wait),
        Verdict::Release => (2, Duration::ZERO),
    };
    let (effect, asked) = match item.effect {
        Effect::Neutral => (0, Duration::ZERO),
        Effect::Fast => (1, Duration::ZERO),
        Effect::Slow => (2, Duration::ZERO),
        Effect::Unanswered => (3, Duration::ZERO),
        Effect::Asked(wait) => (4, wait),
    };
    let mut bytes = Vec::with_capacity(58);
    bytes.extend_from_slice(item.id.as_bytes());
    bytes.extend_from_slice(item.token.as_bytes());
    bytes.extend_from_slice(&[verdict, effect]);
    for double in [micros(wait), micros(asked), number(item.mark)] {
        bytes.extend_from_slice(&double.to_le_bytes());
    }
    bytes.into()
}

pub(crate) fn held(id: DeliveryId, token: Token) -> Bytes {
    [*id.as_bytes(), *token.as_bytes()].concat().into()
}

pub(crate) fn settings(settings: &LaneSettings) -> Bytes {
    let hold = match settings.hold {
        None => 0,
        Some(Hold::Paused) => 1,
        Some(Hold::Disabled) => 2,
        Some(Hold::Deleted) => 3,
    };
    // A limit of none is written 0; a limit of 0 allows one, as 1 does.
    let own = settings.max_in_flight.map_or(0, |most| most.max(1));
    let gap = settings.rate.map_or(0.0, |rate| micros(rate.gap()).max(1.0));
    let mut bytes = Vec::with_capacity(37);
    bytes.extend_from_slice(settings.lane.as_bytes());
    bytes.push(hold);
    bytes.extend_from_slice(&own.to_le_bytes());
    bytes.extend_from_slice(&number(settings.version).to_le_bytes());
    bytes.extend_from_slice(&gap.to_le_bytes());
    bytes.into()
}

// ---------------------------------------------------------------------------------------------------------
// Answers

impl Reply {
    pub(crate) fn list(self) -> Result<Vec<Reply>, Fault> {
        if let Self::List(items) = self { Ok(items) } else { Err(Fault::reply()) }
    }

    pub(crate) fn bytes(self) -> Result<Bytes, Fault> {
        if let Self::Bytes(bytes) = self { Ok(bytes) } else { Err(Fault::reply()) }
    }

    pub(crate) fn int(&self) -> Result<i64, Fault> {
        if let Self::Int(number) = self { Ok(*number) } else { Err(Fault::reply()) }
    }

    pub(crate) fn count(&self) -> Result<u64, Fault> {
        u64::try_from(self.int()?).map_err(|_| Fault::reply())
    }
}

/// The next item of an answer.
pub(crate) fn next(items: &mut impl Iterator<Item = Reply>) -> Result<Reply, Fault> {
    items.next().ok_or_else(Fault::reply)
}

/// A lease, under the token that it was asked for with.
pub(crate) fn lease(bytes: &[u8], token: Token) -> Result<Lease, Fault> {
    let (head, unsettled) = bytes.split_at_checked(LEASE).ok_or_else(Fault::reply)?;
    let id = |from: usize| head.get(from..from + 16).unwrap_or_default();
    let class = match head[32] {
        1 => Class::Good,
        2 => Class::Doubtful,
        3 => Class::Dead,
        _ => return Err(Fault::reply()),
    };
    let unsettled = unsettled.chunks(16).map(Token::from_slice).collect::<Result<_, _>>();
    Ok(Lease {
        id: DeliveryId::from_slice(id(0)).map_err(|_| Fault::reply())?,
        lane: LaneId::from_slice(id(16)).map_err(|_| Fault::reply())?,
        token,
        class,
        mark: whole(double(head, 33)?),
        lane_version: whole(double(head, 41)?),
        unsettled: unsettled.map_err(|_| Fault::reply())?,
    })
}

/// The answers of an enqueue. One that was repeated takes for its own what is leased to its hand-off.
pub(crate) fn enqueued(
    letters: &[u8],
    leases: &mut impl Iterator<Item = Reply>,
    to: Option<&HandOff>,
    repeated: bool,
) -> Result<Vec<Enqueued>, Fault> {
    let mut given = |to: Option<&HandOff>| -> Result<Lease, Fault> {
        let bytes = next(leases)?.bytes()?;
        lease(&bytes, to.ok_or_else(Fault::reply)?.token)
    };
    let one = |letter: &u8| {
        Ok(match letter {
            b'Q' => Enqueued::Queued,
            b'P' => Enqueued::Present,
            b'B' => Enqueued::LaneBehind,
            b'L' => Enqueued::Leased(given(to)?),
            b'M' => {
                let lease = given(to)?;
                if repeated { Enqueued::Leased(lease) } else { Enqueued::Present }
            }
            _ => return Err(Fault::reply()),
        })
    };
    letters.iter().map(one).collect()
}

pub(crate) fn settled(strikes: u8) -> Settled {
    if strikes == u8::MAX { Settled::Stale } else { Settled::Settled { strikes } }
}

/// A lane's record, by the layout of `scripts/lib.lua`.
pub(crate) fn lane_state(record: &[u8], now: i64) -> Result<LaneState, Fault> {
    let int = |from: usize| -> Result<u32, Fault> {
        let bytes = record.get(from..from + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u32::from_le_bytes).ok_or_else(Fault::reply)
    };
    let [hold, strikes, slow, _ring, ..] = *record else { return Err(Fault::reply()) };
    let now = u64::try_from(now).unwrap_or(0);
    let left = |at: f64| {
        let wait = Duration::from_micros(whole(at).saturating_sub(now));
        (!wait.is_zero()).then_some(wait)
    };
    let limited = double(record, 48)? > 0.0;
    Ok(LaneState {
        version: whole(double(record, 16)?),
        health: Health { strikes, slow: slow == 1, mark: whole(double(record, 24)?) },
        in_flight: int(4)?,
        parked_for: left(double(record, 32)?),
        rate_limited_for: if limited { left(double(record, 40)?) } else { None },
        hold: match hold {
            0 => None,
            1 => Some(Hold::Paused),
            2 => Some(Hold::Disabled),
            3 => Some(Hold::Deleted),
            _ => return Err(Fault::reply()),
        },
    })
}

fn double(bytes: &[u8], from: usize) -> Result<f64, Fault> {
    let bytes = bytes.get(from..from + 8).and_then(|bytes| bytes.try_into().ok());
    bytes.map(f64::from_le_bytes).ok_or_else(Fault::reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_rounded_up_and_bounded() {
        assert_eq!(micros(Duration::from_nanos(1)), 1.0);
        assert_eq!(micros(Duration::from_micros(7)), 7.0);
        assert_eq!(micros(Duration::MAX), 4e15);
    }

    #[test]
    fn the_greatest_version_is_read_back() {
        for version in [0, 1, EXACT - 1, u64::MAX] {
            assert_eq!(whole(number(version)), version);
        }
    }

    #[test]
    fn an_answer_that_is_cut_short_is_an_error() {
        assert!(lease(&[1; 48], Token::new()).is_err());
        assert!(lease(&[1; 64], Token::new()).is_err(), "half of an unsettled token");
        assert!(lane_state(&[0; 40], 0).is_err());
    }
}
