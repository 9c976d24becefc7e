//! Verifying: whether a request to `POST /ingest/{id}` was signed with one of the secrets.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use subtle::{Choice, ConstantTimeEq as _};

use super::{
    HmacSha256, SHA256_PREFIX, VerifyScheme, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP, keyed, tag,
};
use crate::secret::Secret;

/// How far a `webhook-timestamp` may lie from now, either way, inclusive.
pub const TIMESTAMP_TOLERANCE: Duration = Duration::from_secs(5 * 60);

const BASE64_LEN: usize = 44;
const STANDARD_FORM: &str = "`v1,` and base64 of 32 bytes; several are separated by spaces";
const GITHUB_FORM: &str = "`sha256=` and 64 hex digits";
const HEX_FORM: &str = "64 hex digits, with or without `sha256=` before them";
const ID_FORM: &str = "visible ASCII characters without a full stop";
const TIMESTAMP_FORM: &str = "whole unix seconds";

/// What a good signature vouches for, apart from the body.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// The sender's `webhook-id` with [`VerifyScheme::Standard`], signed, and so fit as an idempotency key.
    /// The other schemes sign none.
    pub message_id: Option<String>,
}

/// Why a request is not believed. Nothing of the signature or of the secret is repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A header that the scheme needs is not there.
    #[error("the header `{name}` is missing")]
    MissingHeader {
        /// In the spelling of the scheme or of the configuration.
        name: String,
    },
    /// A header does not have the scheme's form.
    #[error("the header `{name}` must hold {expected}")]
    MalformedHeader {
        /// In the spelling of the scheme or of the configuration.
        name: String,
        /// The form.
        expected: &'static str,
    },
    /// The form is right, but no secret made this signature over this body.
    #[error("the signature was not made over this body with a secret of this subscription")]
    WrongSignature,
    /// An old request sent again, or a clock that is wrong.
    #[error("the header `webhook-timestamp` is more than 5 minutes off; sign again at the time of sending")]
    TimestampOutOfTolerance,
}

/// Verifies that `body` was signed with one of `secrets`.
///
/// `header` replaces the name of the signature's header with [`VerifyScheme::Github`] and
/// [`VerifyScheme::Hex`] (see [`VerifyScheme::takes_header`]). `headers` looks a header up without regard to
/// case and gives its bytes. `now_unix_seconds` is the receiver's clock; only [`VerifyScheme::Standard`]
/// looks at it.
///
/// The comparison takes the same time wherever signatures differ. With [`VerifyScheme::Standard`] each
/// signature in the header is tried, those of versions other than `v1` are ignored, and a `webhook-id` with a
/// full stop is refused, since the signed text could then be cut into id, timestamp and body in a second way
/// (Standard Webhooks, "Signature scheme").
///
/// ```
/// use std::collections::HashMap;
/// use webhook_core::secret::Secret;
/// use webhook_core::signature::{VerifyScheme, verify};
///
/// let secrets = [Secret::from_stored("It's a Secret to Everybody".to_owned())];
/// let request = HashMap::from([(
///     "x-hub-signature-256",
///     "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
/// )]);
/// let lookup = |name: &str| request.get(name).map(|value| value.as_bytes());
/// assert!(verify(VerifyScheme::Github, &secrets, None, lookup, 0, b"Hello, World!").is_ok());
/// assert!(verify(VerifyScheme::Github, &secrets, None, lookup, 0, b"Hello, world!").is_err());
/// ```
///
/// # Errors
///
/// [`VerifyError`]; an HTTP service answers all of them with 401.
pub fn verify<'h>(
    scheme: VerifyScheme,
    secrets: &[Secret],
    header: Option<&str>,
    headers: impl Fn(&str) -> Option<&'h [u8]>,
    now_unix_seconds: i64,
    body: &[u8],
) -> Result<Verified, VerifyError> {
    let keys = || secrets.iter().map(|secret| keyed(&secret.key_bytes(scheme.key_scheme())));
    let find = |name: &str| {
        let value = headers(name).ok_or_else(|| VerifyError::MissingHeader { name: name.to_owned() })?;
        Ok(value.trim_ascii())
    };
    match scheme {
        VerifyScheme::Standard => verify_standard(keys(), find, now_unix_seconds, body),
        VerifyScheme::Github | VerifyScheme::Hex => {
            let name = header.unwrap_or(scheme.default_header());
            let value = find(name)?;
            let bare = (scheme == VerifyScheme::Hex).then_some(value);
            let expected = if bare.is_some() { HEX_FORM } else { GITHUB_FORM };
            let mut signature = [0_u8; 32];
            value
                .strip_prefix(SHA256_PREFIX.as_bytes())
                .or(bare)
                .and_then(|digits| hex::decode_to_slice(digits, &mut signature).ok())
                .ok_or_else(|| VerifyError::MalformedHeader { name: name.to_owned(), expected })?;
            made_by_any(keys(), &[body], &[signature])?;
            Ok(Verified { message_id: None })
        }
    }
}

fn verify_standard<'h>(
    keys: impl Iterator<Item = HmacSha256>,
    find: impl Fn(&str) -> Result<&'h [u8], VerifyError>,
    now_unix_seconds: i64,
    body: &[u8],
) -> Result<Verified, VerifyError> {
    let malformed = |name: &str, expected| VerifyError::MalformedHeader { name: name.to_owned(), expected };

    let id = find(WEBHOOK_ID)?;
    let id = str::from_utf8(id)
        .ok()
        .filter(|id| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'.'))
        .ok_or_else(|| malformed(WEBHOOK_ID, ID_FORM))?;

    // The text as it came is signed, not the number spelled anew.
    let timestamp = find(WEBHOOK_TIMESTAMP)?;
    let seconds = str::from_utf8(timestamp)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse::<i64>().ok())
        .ok_or_else(|| malformed(WEBHOOK_TIMESTAMP, TIMESTAMP_FORM))?;
    if now_unix_seconds.abs_diff(seconds) > TIMESTAMP_TOLERANCE.as_secs() {
        return Err(VerifyError::TimestampOutOfTolerance);
    }

    let signatures: Vec<[u8; 32]> = find(WEBHOOK_SIGNATURE)?
        .split(|&byte| byte == b' ')
        .filter_map(|entry| decode_base64(entry.strip_prefix(b"v1,")?))
        .collect();
    if signatures.is_empty() {
        return Err(malformed(WEBHOOK_SIGNATURE, STANDARD_FORM));
    }
    made_by_any(keys, &[id.as_bytes(), b".", timestamp, b".", body], &signatures)?;
    Ok(Verified { message_id: Some(id.to_owned()) })
}

fn decode_base64(text: &[u8]) -> Option<[u8; 32]> {
    // Longer than the result: the decoder wants room for whole groups.
    let mut buffer = [0_u8; BASE64_LEN];
    if text.len() != BASE64_LEN {
        return None;
    }
    let decoded = BASE64.decode_slice(text, &mut buffer).ok()?;
    buffer[..decoded].try_into().ok()
}

fn made_by_any(
    keys: impl Iterator<Item = HmacSha256>,
    signed: &[&[u8]],
    signatures: &[[u8; 32]],
) -> Result<(), VerifyError> {
    let mut good = Choice::from(0);
    for key in keys {
        let expected = tag(&key, signed);
        for signature in signatures {
            good |= expected.ct_eq(signature);
        }
    }
    if good.into() { Ok(()) } else { Err(VerifyError::WrongSignature) }
}
