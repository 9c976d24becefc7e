//! A retry policy as users write it, in JSON: the `retry` object of a subscription.
//!
//! The grammar of the `--retry` flag is in `text.rs`.

use std::fmt;
use std::time::Duration;

use serde::de::Error as _;
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::schedule::too_many;
use super::{Exponential, MAX_WAIT, MAX_WAITS, RetryError, RetryPolicy, Schedule};
use crate::units::{format_duration, parse_duration};

/// A retry policy that can be written down, stored and read back.
///
/// As JSON it is one of
///
/// ```json
/// {"schedule": ["10s", "30s", "1m", "5m", "15m"]}
/// {"exponential": {"base": "10s", "factor": 2, "max": "1h", "attempts": 7, "jitter": 0.2}}
/// ```
///
/// A schedule may have a `jitter` beside it, which is 0 and not written when left out. Of an exponential
/// policy `base` and `attempts` are required; `factor` is 2, `max` is `7d` and `jitter` is 0 when left out.
/// Unknown fields are refused.
///
/// As text, for the `--retry` flag, it is `schedule:10s,30s,1m,5m,15m`,
/// `exponential:10s,x2,max=1h,attempts=7,jitter=0.2`, or the name of a [preset](RetrySpec::preset).
///
/// ```
/// use std::time::Duration;
/// use webhook_core::retry::{RetryPolicy, RetrySpec};
///
/// let spec: RetrySpec = serde_json::from_str(r#"{"schedule":["10s","1m"]}"#)?;
/// assert_eq!(spec.wait(2, 0.5), Some(Duration::from_secs(60)));
/// assert_eq!(spec, "schedule:10s,1m".parse()?);
/// assert_eq!(serde_json::to_string(&spec)?, r#"{"schedule":["10s","1m"]}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum RetrySpec {
    /// Waits written out.
    Schedule(Schedule),
    /// Waits that grow by a factor.
    Exponential(Exponential),
}

const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;

/// Name, waits in seconds, jitter.
type Preset = (&'static str, &'static [u64], f64);

const STANDARD: Preset = (
    "standard",
    &[5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR],
    0.2,
);

const PRESETS: [Preset; 5] = [
    STANDARD,
    ("svix", &[5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR], 0.0),
    (
        "three-days",
        &[5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 12 * HOUR, 12 * HOUR, 12 * HOUR, 12 * HOUR],
        0.2,
    ),
    ("short", &[10, 30, MINUTE, 5 * MINUTE, 15 * MINUTE], 0.0),
    ("none", &[], 0.0),
];

impl RetrySpec {
    /// The default policy: 5s, 5m, 30m, 2h, 5h, 10h, 14h, 20h, 24h, each ± 20 %, as Standard Webhooks
    /// recommends: ten attempts over a little more than three days.
    #[must_use]
    pub fn standard() -> Self {
        Self::Schedule(Schedule::preset(STANDARD.1, STANDARD.2))
    }

    /// A policy by name, for people who move from another service; `None` for an unknown name.
    ///
    /// | name | waits |
    /// |---|---|
    /// | `standard` | 5s, 5m, 30m, 2h, 5h, 10h, 14h, 20h, 24h, ± 20 % (Standard Webhooks) |
    /// | `svix` | 5s, 5m, 30m, 2h, 5h, 10h, 10h (as Svix documents it) |
    /// | `three-days` | 5m, 30m, 2h, 5h, 10h, four times 12h, ± 20 % (for the three days of backoff that Stripe promises without publishing its waits) |
    /// | `short` | 10s, 30s, 1m, 5m, 15m (usual in small services) |
    /// | `none` | a single attempt (as GitHub does) |
    #[must_use]
    pub fn preset(name: &str) -> Option<Self> {
        let preset = PRESETS.iter().find(|preset| preset.0 == name)?;
        Some(Self::Schedule(Schedule::preset(preset.1, preset.2)))
    }

    /// The names that [`preset`](Self::preset) knows.
    pub fn preset_names() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|preset| preset.0)
    }

    /// Reads the `retry` object of a subscription (not null, which means "the server's own policy").
    ///
    /// # Errors
    ///
    /// [`RetryError`] with the path of the first refused part, `retry` itself included.
    pub fn from_json(json: &Value) -> Result<Self, RetryError> {
        let object = as_object(json, "retry")?;
        match (object.get("schedule"), object.get("exponential")) {
            (Some(waits), None) => {
                refuse_unknown(object, "retry", &["schedule", "jitter"])?;
                Ok(Self::Schedule(Schedule::new(
                    read_waits(waits)?,
                    read_number(object, "retry", "jitter")?.unwrap_or(0.0),
                )?))
            }
            (None, Some(json)) => {
                refuse_unknown(object, "retry", &["exponential"])?;
                Ok(Self::Exponential(read_exponential(json)?))
            }
            (None, None) => {
                refuse_unknown(object, "retry", &["schedule", "exponential"])?;
                Err(RetryError::new("retry", "give either `schedule` or `exponential`"))
            }
            (Some(_), Some(_)) => {
                Err(RetryError::new("retry", "give either `schedule` or `exponential`, not both"))
            }
        }
    }
}

fn as_object<'a>(json: &'a Value, path: &str) -> Result<&'a Map<String, Value>, RetryError> {
    json.as_object().ok_or_else(|| RetryError::new(path, "expected an object"))
}

fn refuse_unknown(object: &Map<String, Value>, path: &str, known: &[&str]) -> Result<(), RetryError> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => {
            let known = known.join("`, `");
            let detail = format!("unknown field; the fields are `{known}`");
            Err(RetryError { is_unknown_field: true, ..RetryError::new(format!("{path}.{key}"), detail) })
        }
    }
}

fn read_duration(json: &Value, path: String) -> Result<Duration, RetryError> {
    match json.as_str() {
        Some(text) => parse_duration(text).map_err(|error| RetryError::new(path, error.to_string())),
        None => Err(RetryError::new(path, "expected a duration in text, such as \"10s\"")),
    }
}

fn read_number(object: &Map<String, Value>, path: &str, key: &str) -> Result<Option<f64>, RetryError> {
    match object.get(key) {
        None => Ok(None),
        Some(json) => json
            .as_f64()
            .map(Some)
            .ok_or_else(|| RetryError::new(format!("{path}.{key}"), "expected a number")),
    }
}

fn read_waits(json: &Value) -> Result<Vec<Duration>, RetryError> {
    let waits = json.as_array().ok_or_else(|| {
        RetryError::new("retry.schedule", "expected an array of durations, such as [\"10s\"]")
    })?;
    if waits.len() > MAX_WAITS {
        return Err(too_many(waits.len()));
    }
    waits.iter().enumerate().map(|(i, wait)| read_duration(wait, format!("retry.schedule[{i}]"))).collect()
}

fn read_exponential(json: &Value) -> Result<Exponential, RetryError> {
    const PATH: &str = "retry.exponential";
    let object = as_object(json, PATH)?;
    refuse_unknown(object, PATH, &["base", "factor", "max", "attempts", "jitter"])?;
    let field = |key: &str| format!("{PATH}.{key}");
    let required =
        |key: &str| object.get(key).ok_or_else(|| RetryError::new(field(key), "the field is missing"));

    let base = read_duration(required("base")?, field("base"))?;
    let max = object.get("max").map_or(Ok(MAX_WAIT), |json| read_duration(json, field("max")))?;
    // A whole number past 32 bits is left to the range check, whose words fit it better.
    let attempts = required("attempts")?
        .as_u64()
        .ok_or_else(|| RetryError::new(field("attempts"), "expected a whole number of attempts in total"))?;
    Exponential::new(
        base,
        read_number(object, PATH, "factor")?.unwrap_or(DEFAULT_FACTOR),
        max,
        u32::try_from(attempts).unwrap_or(u32::MAX),
        read_number(object, PATH, "jitter")?.unwrap_or(0.0),
    )
}

/// The factor of an exponential policy that names none.
pub(super) const DEFAULT_FACTOR: f64 = 2.0;

impl From<Schedule> for RetrySpec {
    fn from(schedule: Schedule) -> Self {
        Self::Schedule(schedule)
    }
}

impl From<Exponential> for RetrySpec {
    fn from(exponential: Exponential) -> Self {
        Self::Exponential(exponential)
    }
}

impl RetryPolicy for RetrySpec {
    fn wait(&self, failed: u32, sample: f64) -> Option<Duration> {
        match self {
            Self::Schedule(policy) => policy.wait(failed, sample),
            Self::Exponential(policy) => policy.wait(failed, sample),
        }
    }

    fn span(&self) -> Duration {
        match self {
            Self::Schedule(policy) => policy.span(),
            Self::Exponential(policy) => policy.span(),
        }
    }

    fn longest(&self) -> Duration {
        match self {
            Self::Schedule(policy) => policy.longest(),
            Self::Exponential(policy) => policy.longest(),
        }
    }
}

/// A number that is written without `.0` when it is whole, as people and the API's examples write it.
struct Plain(f64);

impl Serialize for Plain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match (0..=100_u32).find(|whole| f64::from(*whole) == self.0) {
            Some(whole) => serializer.serialize_u32(whole),
            None => serializer.serialize_f64(self.0),
        }
    }
}

struct ExponentialJson<'a>(&'a Exponential);

impl Serialize for ExponentialJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(5))?;
        map.serialize_entry("base", &format_duration(self.0.base()))?;
        map.serialize_entry("factor", &Plain(self.0.factor()))?;
        map.serialize_entry("max", &format_duration(self.0.max()))?;
        map.serialize_entry("attempts", &self.0.attempts())?;
        map.serialize_entry("jitter", &Plain(self.0.jitter()))?;
        map.end()
    }
}

impl Serialize for RetrySpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::Schedule(policy) => {
                let waits: Vec<String> = policy.waits().iter().copied().map(format_duration).collect();
                map.serialize_entry("schedule", &waits)?;
                if policy.jitter() != 0.0 {
                    map.serialize_entry("jitter", &Plain(policy.jitter()))?;
                }
            }
            Self::Exponential(policy) => map.serialize_entry("exponential", &ExponentialJson(policy))?,
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for RetrySpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_json(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl fmt::Display for RetrySpec {
    /// Writes the form that `FromStr` reads, in full: a preset is spelled out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        super::text::write(self, f)
    }
}
