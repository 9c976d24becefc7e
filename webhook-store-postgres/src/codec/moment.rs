//! Moments and spans in the server's own types, to the microsecond and without another crate's calendar.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type};
use webhook_core::time::Timestamp;

/// From the Unix epoch to that of PostgreSQL, 2000-01-01, in microseconds.
const EPOCH: i64 = 946_684_800_000_000;
/// What a `timestamptz` can hold, but for the infinities: 4713 BC to 294276 AD.
const EARLIEST: i64 = -211_813_488_000_000_000;
const LATEST: i64 = 9_223_371_331_199_999_999;

/// A moment as a `timestamptz`: microseconds since the Unix epoch. One that the server cannot hold becomes the
/// nearest that it can, and the least becomes `-infinity`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) i64);

impl From<Timestamp> for Moment {
    fn from(at: Timestamp) -> Self {
        Self(at.as_micros())
    }
}

impl From<Moment> for Timestamp {
    fn from(at: Moment) -> Self {
        Self::from_micros(at.0)
    }
}

impl Type<Postgres> for Moment {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1184))
    }
}

impl PgHasArrayType for Moment {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1185))
    }
}

impl Encode<'_, Postgres> for Moment {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let at = match self.0 {
            // The server's name for the beginning of time.
            i64::MIN => i64::MIN,
            at => at.saturating_sub(EPOCH).clamp(EARLIEST, LATEST),
        };
        buffer.extend_from_slice(&at.to_be_bytes());
        Ok(IsNull::No)
    }

    fn size_hint(&self) -> usize {
        8
    }
}

impl Decode<'_, Postgres> for Moment {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        if value.format() == PgValueFormat::Text {
            return Err("a moment as text".into());
        }
        let bytes: [u8; 8] = value.as_bytes()?.try_into()?;
        // The infinities become the ends of time.
        Ok(Self(i64::from_be_bytes(bytes).saturating_add(EPOCH)))
    }
}
