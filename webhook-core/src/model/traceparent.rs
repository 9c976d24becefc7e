//! W3C Trace Context: which trace an event belongs to.

use std::fmt;
use std::str::FromStr;

/// The `traceparent` of an event (W3C Trace Context, level 2): the trace that its publisher was in, which every
/// attempt of every delivery goes on with.
///
/// It is read strictly: lower-case hexadecimal digits, no version `ff`, no id of nothing but zeros. A version
/// after `00` is read by its first four fields and passed on as `00`, as the recommendation wants. Of the flags,
/// *sampled* and *random trace id* are passed on and the others, which mean nothing yet, are cleared.
///
/// Whoever gets one that cannot be read goes on without it: the recommendation forbids to fail for it.
///
/// ```
/// use webhook_core::model::TraceParent;
///
/// let given: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse()?;
/// let child = given.child();
/// assert_eq!(child.trace_id(), given.trace_id());
/// assert_ne!(child.parent_id(), given.parent_id());
/// assert!(child.is_sampled());
/// # Ok::<(), webhook_core::model::InvalidTraceParent>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace_id: [u8; 16],
    parent_id: [u8; 8],
    flags: u8,
}

/// A text that is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent: expected 00-TRACE_ID-PARENT_ID-FLAGS in lower-case hexadecimal digits")]
pub struct InvalidTraceParent;

const SAMPLED: u8 = 0b01;
const RANDOM: u8 = 0b10;
/// The bytes of version `00`.
const LENGTH: usize = 55;

impl TraceParent {
    /// Begins a trace, sampled, with random ids.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "ids are drawn, not defaulted")]
    pub fn new() -> Self {
        Self { trace_id: drawn(), parent_id: drawn(), flags: SAMPLED | RANDOM }
    }

    /// The next step of the same trace: its trace id and flags, with a parent id of its own.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { parent_id: drawn(), ..*self }
    }

    /// The trace's id.
    #[must_use]
    pub const fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// The id of the step that sends this, `span_id` to others.
    #[must_use]
    pub const fn parent_id(&self) -> [u8; 8] {
        self.parent_id
    }

    /// Whether the caller may have recorded its own part.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// Random bytes that are not all zero, which would mean that there is no id.
#[allow(clippy::disallowed_methods, reason = "core draws ids")]
fn drawn<const N: usize>() -> [u8; N]
where
    rand::distr::StandardUniform: rand::distr::Distribution<[u8; N]>,
{
    loop {
        let id: [u8; N] = rand::random();
        if id != [0; N] {
            return id;
        }
    }
}

impl FromStr for TraceParent {
    type Err = InvalidTraceParent;

    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        let bytes = text.as_bytes();
        let (head, rest) = bytes.split_at_checked(LENGTH).ok_or(InvalidTraceParent)?;
        let [version] = id(&head[..2])?;
        let is_whole = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest[0] == b'-',
        };
        let dashes = [2, 35, 52].iter().all(|at| head[*at] == b'-');
        let (trace_id, parent_id, [flags]) = (id(&head[3..35])?, id(&head[36..52])?, id(&head[53..])?);
        if !is_whole || !dashes || trace_id == [0; 16] || parent_id == [0; 8] {
            return Err(InvalidTraceParent);
        }
        Ok(Self { trace_id, parent_id, flags: flags & (SAMPLED | RANDOM) })
    }
}

/// Reads digits; upper-case ones are none here.
fn id<const N: usize>(digits: &[u8]) -> Result<[u8; N], InvalidTraceParent> {
    if digits.iter().any(u8::is_ascii_uppercase) {
        return Err(InvalidTraceParent);
    }
    let mut id = [0; N];
    hex::decode_to_slice(digits, &mut id).map_err(|_| InvalidTraceParent)?;
    Ok(id)
}

impl fmt::Display for TraceParent {
    /// The header's value, of version `00`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace_id, parent_id, flags } = self;
        write!(
            f,
            "00-{:032x}-{:016x}-{flags:02x}",
            u128::from_be_bytes(*trace_id),
            u64::from_be_bytes(*parent_id)
        )
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_the_recommendation_calls_valid_is_read_and_written_as_version_00() {
        for (text, written) in [
            (GIVEN, GIVEN),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            ),
            (
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03",
            ),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", GIVEN),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-the-future-brings", GIVEN),
        ] {
            assert_eq!(text.parse::<TraceParent>().unwrap().to_string(), written, "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "00",
            "4bf92f3577b34da6a3ce929d0e0e4736",
            // Of the wrong length.
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-011",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            // Not hexadecimal, or not in lower case.
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902bx-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
            "0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            // Ids of zeros, and the version that there is not.
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            // Other separators, and space around it.
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
            " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 ",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-é",
        ] {
            assert_eq!(text.parse::<TraceParent>(), Err(InvalidTraceParent), "{text:?}");
        }
    }

    #[test]
    fn a_new_trace_and_a_step_of_it_read_back() {
        let begun = TraceParent::new();
        let child = begun.child();
        assert_ne!(begun.trace_id(), TraceParent::new().trace_id());
        for each in [begun, child] {
            assert_eq!(each.to_string().parse(), Ok(each));
            assert!(each.is_sampled());
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic_and_what_it_takes_it_can_write(text in "[0-9a-fA-F-]{0,60}|\\PC{0,70}") {
            if let Ok(read) = text.parse::<TraceParent>() {
                prop_assert_eq!(read.to_string().parse(), Ok(read));
            }
        }
    }
}
