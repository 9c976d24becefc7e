//! Durations and sizes as people write them: `10s`, `72h`, `64KiB`.
//!
//! Configuration, flags and the HTTP API all speak this one notation, so a value can be copied from any of
//! them to any other. The module owes three things to all of its callers:
//!
//! - **Parsing is strict.** A number without a unit is refused rather than guessed at (`0` is the exception:
//!   nothing is nothing in every unit), so `timeout = 15` can never mean fifteen days or fifteen milliseconds.
//! - **Writing is exact.** [`format_duration`] and [`format_size`] give text that parses to the same value.
//! - **Errors say what is accepted** and leave out the value: the caller knows the flag or field and whether
//!   its value may be shown.
//!
//! | | units | examples |
//! |---|---|---|
//! | duration | `ms`, `s`, `m`, `h`, `d` (24 hours) | `250ms`, `10s`, `5m`, `72h`, `1h30m` |
//! | size | none or `B`; `KiB` `MiB` `GiB` `TiB` (1024); `KB` `MB` `GB` `TB` (1000) | `512`, `64KiB`, `10MB` |
//!
//! Duration units are lower case (`5M` could be months); size units are taken in any case, because no two of
//! them differ by case alone.

use std::time::Duration;

/// The longest duration that [`parse_duration`] accepts: 36,500 days, a hundred years.
///
/// The bound keeps later sums with instants far from overflow, so that a mistyped flag is an error at the
/// start and not a panic at the first retry.
pub const MAX_DURATION: Duration = Duration::from_secs(36_500 * 86_400);

/// Why a duration or a size was refused. The text says what is accepted and never repeats the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnitError {
    /// The text is not a duration.
    #[error(
        "expected a duration: a whole number with a unit of ms, s, m, h or d, such as 250ms, 10s, 5m or 1h30m"
    )]
    DurationSyntax,
    /// A duration is a bare number other than `0`.
    #[error("the unit is missing: write a duration with ms, s, m, h or d, such as 250ms, 10s, 5m or 72h")]
    DurationUnit,
    /// A duration is past [`MAX_DURATION`].
    #[error("the duration is too long: at most 36500d is accepted")]
    DurationRange,
    /// The text is not a size.
    #[error(
        "expected a size: a whole number of bytes, or one with a unit of KiB, MiB, GiB, TiB, KB, MB, GB or TB, such as 512, 64KiB or 10MB"
    )]
    SizeSyntax,
    /// A size does not fit in 64 bits.
    #[error("the size is too large: at most 18446744073709551615 bytes are accepted")]
    SizeRange,
}

/// Milliseconds in each duration unit, from the largest to the smallest.
const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Bytes in each size unit: the binary ones first, each kind from the largest to the smallest, because that
/// is the order in which [`format_size`] prefers them.
const SIZE_UNITS: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
];

/// From this many milliseconds on, whole days are written in days; below it people say `24h` and `72h`.
const DAYS_FROM_MS: u128 = 4 * 86_400_000;

/// Splits leading ASCII digits off.
fn split_number(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// Reads a duration: whole numbers with a unit, larger units first and each at most once, or `0` alone.
///
/// # Errors
///
/// [`UnitError`] when the text is not a duration, lacks its unit, or is longer than [`MAX_DURATION`].
///
/// ```
/// use std::time::Duration;
/// use webhook_core::units::parse_duration;
///
/// assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
/// assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5_400)));
/// assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
/// assert!(parse_duration("10").is_err(), "ten of what?");
/// assert!(parse_duration("1.5h").is_err(), "write 90m");
/// ```
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut units = DURATION_UNITS.as_slice();
    let mut total: u64 = 0;
    loop {
        let (digits, after) = split_number(rest);
        if digits.is_empty() {
            return Err(UnitError::DurationSyntax);
        }
        if after.is_empty() && digits.len() == text.len() {
            return Err(UnitError::DurationUnit);
        }
        let (name, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        let position = units.iter().position(|unit| unit.0 == name).ok_or(UnitError::DurationSyntax)?;
        let count: u64 = digits.parse().map_err(|_| UnitError::DurationRange)?;
        total = count
            .checked_mul(units[position].1)
            .and_then(|part| total.checked_add(part))
            .ok_or(UnitError::DurationRange)?;
        units = &units[position + 1..];
        if after.is_empty() {
            break;
        }
        rest = after;
    }
    let duration = Duration::from_millis(total);
    if duration > MAX_DURATION { Err(UnitError::DurationRange) } else { Ok(duration) }
}

/// Writes a duration as one number with the largest unit that divides it exactly: `90s`, `5m`, `72h`, `5d`.
/// Whole days are written in hours up to `72h`, as people say them, and in days beyond.
///
/// The text parses to the same duration as long as that is whole milliseconds and at most [`MAX_DURATION`].
/// A finer part is rounded up to the next millisecond, so that a wait is never written shorter than it was
/// meant.
///
/// ```
/// use std::time::Duration;
/// use webhook_core::units::format_duration;
///
/// assert_eq!(format_duration(Duration::from_secs(90)), "90s");
/// assert_eq!(format_duration(Duration::from_secs(5_400)), "90m");
/// assert_eq!(format_duration(Duration::from_secs(72 * 3_600)), "72h");
/// assert_eq!(format_duration(Duration::from_secs(30 * 86_400)), "30d");
/// assert_eq!(format_duration(Duration::ZERO), "0s");
/// ```
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let ms = duration.as_nanos().div_ceil(1_000_000);
    if ms == 0 {
        return "0s".to_owned();
    }
    for (name, unit) in DURATION_UNITS {
        if ms.is_multiple_of(u128::from(unit)) && (name != "d" || ms >= DAYS_FROM_MS) {
            return format!("{}{name}", ms / u128::from(unit));
        }
    }
    format!("{ms}ms")
}

/// Reads a size in bytes: a whole number, alone or with a unit (see the [module](self)).
///
/// # Errors
///
/// [`UnitError`] when the text is not a size or does not fit in 64 bits.
///
/// ```
/// use webhook_core::units::parse_size;
///
/// assert_eq!(parse_size("512"), Ok(512));
/// assert_eq!(parse_size("64KiB"), Ok(65_536));
/// assert_eq!(parse_size("10KB"), Ok(10_000));
/// assert!(parse_size("1K").is_err(), "1000 or 1024?");
/// ```
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let (digits, name) = split_number(text);
    if digits.is_empty() {
        return Err(UnitError::SizeSyntax);
    }
    let unit = if name.is_empty() || name.eq_ignore_ascii_case("B") {
        1
    } else {
        SIZE_UNITS.iter().find(|unit| unit.0.eq_ignore_ascii_case(name)).ok_or(UnitError::SizeSyntax)?.1
    };
    let count: u64 = digits.parse().map_err(|_| UnitError::SizeRange)?;
    count.checked_mul(unit).ok_or(UnitError::SizeRange)
}

/// Writes a size as one number with the largest unit that divides it exactly, binary units before decimal
/// ones, so that it parses to the same number of bytes.
///
/// ```
/// use webhook_core::units::format_size;
///
/// assert_eq!(format_size(1_048_576), "1MiB");
/// assert_eq!(format_size(10_000), "10KB");
/// assert_eq!(format_size(1_001), "1001");
/// ```
#[must_use]
pub fn format_size(bytes: u64) -> String {
    for (name, unit) in SIZE_UNITS {
        if bytes != 0 && bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    bytes.to_string()
}

/// A [`Duration`] as text in serde formats, for `#[serde(with = "webhook_core::units::serde_duration")]`.
///
/// ```
/// use std::time::Duration;
///
/// #[derive(serde::Deserialize, serde::Serialize)]
/// struct Settings {
///     #[serde(with = "webhook_core::units::serde_duration")]
///     timeout: Duration,
/// }
///
/// let settings: Settings = serde_json::from_str(r#"{"timeout":"15s"}"#)?;
/// assert_eq!(settings.timeout, Duration::from_secs(15));
/// assert_eq!(serde_json::to_string(&settings)?, r#"{"timeout":"15s"}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
pub mod serde_duration {
    use std::fmt;
    use std::time::Duration;

    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    struct DurationText;

    impl Visitor<'_> for DurationText {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration in text, such as \"250ms\", \"10s\", \"5m\" or \"72h\"")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
            super::parse_duration(text).map_err(E::custom)
        }
    }

    /// Writes the duration with [`format_duration`](super::format_duration).
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::format_duration(*duration))
    }

    /// Reads the duration with [`parse_duration`](super::parse_duration); a bare number is refused.
    ///
    /// # Errors
    ///
    /// Those of the deserializer, and the text of [`UnitError`](super::UnitError).
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        deserializer.deserialize_str(DurationText)
    }

    /// The same for `Option<Duration>`, `null` being none; add `#[serde(default)]` where it may be left out.
    pub mod option {
        use std::time::Duration;

        use serde::{Deserialize, Deserializer, Serializer};

        /// Writes the text of the duration, or null.
        ///
        /// # Errors
        ///
        /// Those of the serializer.
        #[allow(clippy::ref_option)] // the signature is serde's
        pub fn serialize<S: Serializer>(
            duration: &Option<Duration>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            match duration {
                Some(duration) => super::serialize(duration, serializer),
                None => serializer.serialize_none(),
            }
        }

        /// Reads the text of a duration, or null.
        ///
        /// # Errors
        ///
        /// As [`deserialize`](super::deserialize).
        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
            #[derive(Deserialize)]
            #[serde(transparent)]
            struct Text(#[serde(with = "super")] Duration);

            Ok(Option::<Text>::deserialize(deserializer)?.map(|text| text.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn durations_are_read_in_every_unit_and_compound() {
        for (text, expected) in [
            ("0", Duration::ZERO),
            ("0s", Duration::ZERO),
            ("250ms", Duration::from_millis(250)),
            ("10s", secs(10)),
            ("5m", secs(300)),
            ("72h", secs(259_200)),
            ("5d", secs(432_000)),
            ("1h30m", secs(5_400)),
            ("1d2h3m4s5ms", Duration::from_millis(93_784_005)),
            ("010s", secs(10)),
            ("36500d", MAX_DURATION),
        ] {
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn text_that_is_not_a_duration_is_refused() {
        for text in [
            "", " ", "s", "ms", "-1s", "+1s", "1.5h", "1 s", " 1s", "1s ", "5M", "1S", "1w", "1us", "30m1h",
            "1s1s", "1h30", "1sec", "١s", "1e3s", "0x1s", "∞", "00:10",
        ] {
            assert_eq!(parse_duration(text), Err(UnitError::DurationSyntax), "{text:?}");
        }
    }

    #[test]
    fn a_number_without_its_unit_and_a_huge_one_get_their_own_errors() {
        assert_eq!(parse_duration("10"), Err(UnitError::DurationUnit));
        assert_eq!(parse_duration("00"), Err(UnitError::DurationUnit));
        for text in [
            "36501d",
            "99999999999999999999999s",
            "18446744073709551615d",
            "18446744073709551615ms",
            "36500d1ms",
        ] {
            assert_eq!(parse_duration(text), Err(UnitError::DurationRange), "{text}");
        }
    }

    #[test]
    fn durations_are_written_as_people_say_them() {
        for text in
            ["0s", "1ms", "1500ms", "90s", "5m", "90m", "20h", "24h", "36h", "72h", "4d", "5d", "30d", "100h"]
        {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
        assert_eq!(format_duration(secs(60)), "1m");
        assert_eq!(format_duration(parse_duration("1d").unwrap()), "24h");
        assert_eq!(format_duration(Duration::from_nanos(1)), "1ms", "rounded up, never shorter");
        assert_eq!(format_duration(Duration::MAX), "18446744073709551616s");
    }

    #[test]
    fn sizes_are_read_in_every_unit_whatever_their_case() {
        for (text, expected) in [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("64KiB", 65_536),
            ("64kib", 65_536),
            ("1MiB", 1_048_576),
            ("2GiB", 2_147_483_648),
            ("1TiB", 1_099_511_627_776),
            ("10KB", 10_000),
            ("10kB", 10_000),
            ("3MB", 3_000_000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Ok(expected), "{text}");
        }
        for text in ["", "KiB", "-1", "1.5MiB", "1 KiB", "1K", "1Ki", "1M", "1KiBB", "1PiB", "0x10", "1e3"] {
            assert_eq!(parse_size(text), Err(UnitError::SizeSyntax), "{text:?}");
        }
        for text in ["18446744073709551616", "16777216TiB"] {
            assert_eq!(parse_size(text), Err(UnitError::SizeRange), "{text}");
        }
    }

    #[test]
    fn errors_name_what_is_accepted() {
        assert!(UnitError::DurationSyntax.to_string().contains("ms, s, m, h or d"));
        assert!(UnitError::DurationUnit.to_string().contains("unit is missing"));
        assert!(UnitError::SizeSyntax.to_string().contains("64KiB"));
    }

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Optional {
        #[serde(default, with = "serde_duration::option")]
        timeout: Option<Duration>,
    }

    #[test]
    fn optional_durations_are_text_null_or_absent() {
        for (json, expected) in
            [(r#"{"timeout":"15s"}"#, Some(secs(15))), (r#"{"timeout":null}"#, None), ("{}", None)]
        {
            assert_eq!(serde_json::from_str::<Optional>(json).unwrap().timeout, expected);
        }
        assert_eq!(serde_json::to_string(&Optional { timeout: None }).unwrap(), r#"{"timeout":null}"#);
        let refused = serde_json::from_str::<Optional>(r#"{"timeout":15}"#).unwrap_err().to_string();
        assert!(refused.contains("a duration in text"), "{refused}");
        let refused = serde_json::from_str::<Optional>(r#"{"timeout":"15"}"#).unwrap_err().to_string();
        assert!(refused.contains("unit is missing"), "{refused}");
    }

    proptest! {
        #[test]
        fn every_duration_in_range_survives_the_round_trip(ms in 0..=36_500_u64 * 86_400_000) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn round_numbers_survive_the_round_trip(count in 0..1000_u64, unit in 0..DURATION_UNITS.len()) {
            let duration = Duration::from_millis(count * DURATION_UNITS[unit].1);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn every_size_survives_the_round_trip(bytes: u64, count in 0..5_000_u64, unit in 0..SIZE_UNITS.len()) {
            for bytes in [bytes, count * SIZE_UNITS[unit].1] {
                prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
            }
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,20}|[0-9dhms]{0,24}|[0-9]{1,20}[KMGTkib]{0,3}") {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
        }
    }
}
