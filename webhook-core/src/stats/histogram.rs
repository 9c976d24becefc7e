use std::collections::BTreeMap;
use std::time::Duration;

/// Parts of each power of two.
const PARTS: u64 = 8;
const PARTS_BITS: u32 = PARTS.trailing_zeros();
/// Durations from here on share the last bucket: 2^42 µs, some fifty days.
const MOST_MICROS: u64 = 1 << 42;

/// How durations are spread, in buckets.
///
/// Buckets are those of an HDR histogram: each power of two of microseconds is cut into eight equal parts, so a
/// bucket is at most an eighth as wide as what it holds, and below 8 µs each microsecond has its own. Two
/// histograms merge without a loss, in any order, which is what lets roll-ups be added up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Only buckets that hold something.
    buckets: BTreeMap<u16, u64>,
}

/// Bytes that are not a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a histogram: expected pairs of a bucket's distance and its count, as variable-length integers")]
pub struct InvalidHistogram;

impl Histogram {
    /// Counts one duration.
    pub fn add(&mut self, duration: Duration) {
        *self.buckets.entry(bucket(duration)).or_default() += 1;
    }

    /// Counts what another one has counted.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.buckets {
            let sum = self.buckets.entry(*bucket).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    /// How many durations it has counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The duration that `share` of all (0 to 1) do not exceed, by nearest rank; `None` of nothing.
    ///
    /// It lies in the same bucket as the exact one: it is off by less than an eighth.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank among more than 2^53 durations need not be exact"
    )]
    pub fn percentile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        let rank = ((share.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut before = 0_u64;
        for (index, in_bucket) in &self.buckets {
            if before.saturating_add(*in_bucket) >= rank {
                let (start, width) = bounds(*index);
                let place = (rank - before) as f64 / *in_bucket as f64;
                let micros = start + (place * width as f64).floor() as u64;
                return Some(Duration::from_micros(micros.min(start + width - 1)));
            }
            before = before.saturating_add(*in_bucket);
        }
        None
    }

    /// As stores keep it: for each bucket that holds something, how far it is from the one before and how many
    /// it holds, as variable-length integers (LEB128).
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.buckets.len() * 3);
        let mut last = 0;
        for (bucket, count) in &self.buckets {
            write_varint(&mut bytes, u64::from(bucket - last));
            write_varint(&mut bytes, *count);
            last = *bucket;
        }
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// [`InvalidHistogram`].
    pub fn from_bytes(mut bytes: &[u8]) -> Result<Self, InvalidHistogram> {
        let mut buckets = BTreeMap::new();
        let mut last = 0_u64;
        while !bytes.is_empty() {
            last = last.checked_add(read_varint(&mut bytes)?).ok_or(InvalidHistogram)?;
            let bucket = u16::try_from(last).map_err(|_| InvalidHistogram)?;
            let count = read_varint(&mut bytes)?;
            if bucket > last_bucket() || count == 0 || buckets.insert(bucket, count).is_some() {
                return Err(InvalidHistogram);
            }
        }
        Ok(Self { buckets })
    }
}

fn last_bucket() -> u16 {
    bucket(Duration::MAX)
}

/// The bucket of a duration.
fn bucket(duration: Duration) -> u16 {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).min(MOST_MICROS);
    if micros < PARTS {
        return u16::try_from(micros).unwrap_or(0);
    }
    let power = micros.ilog2();
    let part = (micros >> (power - PARTS_BITS)) - PARTS;
    let index = u64::from(power - PARTS_BITS + 1) * PARTS + part;
    u16::try_from(index).unwrap_or(u16::MAX)
}

/// Where a bucket begins and how wide it is, in microseconds.
fn bounds(bucket: u16) -> (u64, u64) {
    let (row, part) = (u64::from(bucket) / PARTS, u64::from(bucket) % PARTS);
    match row.checked_sub(1) {
        None => (part, 1),
        Some(shift) => ((PARTS + part) << shift, 1 << shift),
    }
}

fn write_varint(bytes: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or(0);
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return;
        }
        bytes.push(low | 0x80);
    }
}

fn read_varint(bytes: &mut &[u8]) -> Result<u64, InvalidHistogram> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(InvalidHistogram)?;
        *bytes = rest;
        let low = u64::from(byte & 0x7f);
        if (low << shift) >> shift != low {
            return Err(InvalidHistogram);
        }
        value |= low << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(InvalidHistogram)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(micros: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        micros.iter().for_each(|micros| histogram.add(Duration::from_micros(*micros)));
        histogram
    }

    /// Durations of every magnitude, up to some days.
    fn durations() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec((0_u32..39, 0_u64..1 << 39).prop_map(|(shift, value)| value >> shift), 1..200)
    }

    proptest! {
        #[test]
        fn every_duration_lies_in_its_bucket(micros in 0_u64..MOST_MICROS) {
            let (start, width) = bounds(bucket(Duration::from_micros(micros)));
            prop_assert!((start..start + width).contains(&micros));
            prop_assert!(width == 1 || width * PARTS <= start);
        }

        #[test]
        fn a_percentile_is_off_by_less_than_an_eighth(mut micros in durations(), share in 0.0_f64..=1.0) {
            let answer = of(&micros).percentile(share).unwrap();
            micros.sort_unstable();
            #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let rank = ((share * micros.len() as f64).ceil() as usize).max(1);
            let exact = micros[rank - 1];
            let off = u64::try_from(answer.as_micros()).unwrap().abs_diff(exact);
            prop_assert!(off == 0 || off * PARTS < exact, "{answer:?} for {exact} µs");
        }

        #[test]
        fn merging_is_counting_together(first in durations(), second in durations()) {
            let mut merged = of(&first);
            merged.merge(&of(&second));
            let together: Vec<u64> = first.iter().chain(&second).copied().collect();
            prop_assert_eq!(&merged, &of(&together));
            prop_assert_eq!(merged.count(), together.len() as u64);
        }

        #[test]
        fn bytes_round_trip(micros in durations()) {
            let histogram = of(&micros);
            prop_assert_eq!(Histogram::from_bytes(&histogram.to_bytes()), Ok(histogram));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(histogram) = Histogram::from_bytes(&bytes) {
                prop_assert!(histogram.percentile(0.5).is_some() || bytes.is_empty());
            }
        }
    }

    #[test]
    fn of_nothing_there_is_no_percentile() {
        assert_eq!(Histogram::default().percentile(0.5), None);
        assert_eq!(Histogram::default().to_bytes(), Vec::<u8>::new());
    }

    #[test]
    fn what_is_too_long_is_in_the_last_bucket() {
        let mut histogram = Histogram::default();
        histogram.add(Duration::MAX);
        assert!(histogram.percentile(1.0).unwrap() >= Duration::from_micros(MOST_MICROS));
        assert_eq!(Histogram::from_bytes(&histogram.to_bytes()), Ok(histogram));
    }
}
