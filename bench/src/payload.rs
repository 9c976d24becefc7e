//! A payload of 450 bytes of JSON that carries its number and when it was sent.
//!
//! Every field has a fixed place, so that the receiver reads it without a parser and can check all other bytes too: a
//! payload must arrive as it was published.

use std::sync::OnceLock;
use std::time::Instant;

pub(crate) const SIZE: usize = 450;

const BEFORE_NUMBER: &[u8] = b"{\"number\":\"";
const BEFORE_SENT: &[u8] = b"\",\"sent_ns\":\"";
const BEFORE_PADDING: &[u8] = b"\",\"padding\":\"";
const END: &[u8] = b"\"}";
const DIGITS: usize = 20;
const NUMBER_AT: usize = BEFORE_NUMBER.len();
const SENT_AT: usize = NUMBER_AT + DIGITS + BEFORE_SENT.len();
const PADDING: usize = SIZE - SENT_AT - DIGITS - BEFORE_PADDING.len() - END.len();

/// Nanoseconds since this process first asked. Sender and receiver are one process, so one monotonic clock.
pub(crate) fn now() -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let elapsed = ORIGIN.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

/// Appends the payload with this number, sent at `sent` ([`now`]).
pub(crate) fn write(number: usize, sent: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(BEFORE_NUMBER);
    write_digits(number as u64, out);
    out.extend_from_slice(BEFORE_SENT);
    write_digits(sent, out);
    out.extend_from_slice(BEFORE_PADDING);
    out.resize(out.len() + PADDING, b'x');
    out.extend_from_slice(END);
}

/// Number and time of a payload; none when any byte is not as [`write()`] wrote it.
pub(crate) fn read(bytes: &[u8]) -> Option<(usize, u64)> {
    if bytes.len() != SIZE {
        return None;
    }
    let rest = bytes.strip_prefix(BEFORE_NUMBER)?;
    let (number, rest) = rest.split_at(DIGITS);
    let (sent, rest) = rest.strip_prefix(BEFORE_SENT)?.split_at(DIGITS);
    let padding = rest.strip_prefix(BEFORE_PADDING)?.strip_suffix(END)?;
    if !padding.iter().all(|&byte| byte == b'x') {
        return None;
    }
    Some((usize::try_from(read_digits(number)?).ok()?, read_digits(sent)?))
}

fn write_digits(value: u64, out: &mut Vec<u8>) {
    let mut digits = [b'0'; DIGITS];
    let mut rest = value;
    for digit in digits.iter_mut().rev() {
        *digit += u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
    out.extend_from_slice(&digits);
}

fn read_digits(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, &digit| {
        let digit = char::from(digit).to_digit(10)?;
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_json_of_450_bytes_and_reads_back() {
        let mut bytes = Vec::new();
        write(1_234_567, u64::MAX, &mut bytes);
        assert_eq!(bytes.len(), SIZE);
        assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
        assert_eq!(read(&bytes), Some((1_234_567, u64::MAX)));
    }

    #[test]
    fn a_payload_with_one_byte_changed_or_gone_is_not_read() {
        let mut bytes = Vec::new();
        write(7, 9, &mut bytes);
        assert_eq!(read(&bytes[..SIZE - 1]), None);
        for at in [0, BEFORE_NUMBER.len() + DIGITS, SIZE - 10, SIZE - 1] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(read(&changed), None, "byte {at}");
        }
    }
}
