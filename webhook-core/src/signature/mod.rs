//! Signatures: signing what is delivered, and verifying what is ingested.
//!
//! Every scheme is HMAC-SHA256 over the exact bytes of the body; they differ in what else is signed and in
//! the header.
//!
//! | scheme | header | signed | key of a `whsec_` secret |
//! |---|---|---|---|
//! | [`Standard`](SignatureScheme::Standard) | `webhook-signature: v1,<base64>`, one for each secret, separated by spaces | `id.timestamp.body` | its decoded bytes |
//! | [`Github`](SignatureScheme::Github) | `x-hub-signature-256: sha256=<hex>` | `body` | its characters |
//! | [`Stripe`](SignatureScheme::Stripe) | `stripe-signature: t=<unix seconds>,v1=<hex>` | `timestamp.body` | its characters |
//!
//! Sources: [Standard Webhooks], [GitHub], [Stripe].
//!
//! [`Signer`] is for the hot path: keyed once for a subscription, it neither copies nor re-reads the body to
//! sign it. [`sign`] does the same in one call. [`verify`] compares in constant time and decides on what it
//! was given alone: the caller brings the time and looks headers up. Nothing here performs I/O, and no error
//! or `Debug` shows a key, a signature or a body.
//!
//! [Standard Webhooks]: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
//! [GitHub]: https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
//! [Stripe]: https://docs.stripe.com/webhooks#verify-manually

mod sign;
#[cfg(test)]
mod tests;
mod verify;

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

pub use sign::{SignatureHeader, Signer, sign};
pub use verify::{TIMESTAMP_TOLERANCE, Verified, VerifyError, verify};

/// The header that names the event, the same on every attempt.
pub const WEBHOOK_ID: &str = "webhook-id";
/// The header with the unix seconds of the attempt.
pub const WEBHOOK_TIMESTAMP: &str = "webhook-timestamp";
/// The header with the signatures of the standard scheme.
pub const WEBHOOK_SIGNATURE: &str = "webhook-signature";

const HUB_SIGNATURE: &str = "x-hub-signature-256";
const STRIPE_SIGNATURE: &str = "stripe-signature";
const X_SIGNATURE: &str = "x-signature";
/// What GitHub and many senders of plain hex write before the digits.
const SHA256_PREFIX: &str = "sha256=";

type HmacSha256 = Hmac<Sha256>;

/// How deliveries of a subscription are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SignatureScheme {
    /// Standard Webhooks, symmetric (`v1`): one signature for each secret in use.
    #[default]
    Standard,
    /// As GitHub signs: the body alone, with the newest secret.
    Github,
    /// As Stripe signs: timestamp and body, with the newest secret.
    Stripe,
    /// No signature; `webhook-id` and `webhook-timestamp` are sent all the same.
    None,
}

impl SignatureScheme {
    /// Every scheme, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Standard, Self::Github, Self::Stripe, Self::None];

    /// The name in the API, in stores and in configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Github => "github",
            Self::Stripe => "stripe",
            Self::None => "none",
        }
    }

    /// The header that carries the signature, in lower case; none for a scheme that does not sign.
    #[must_use]
    pub const fn header_name(self) -> Option<&'static str> {
        match self {
            Self::Standard => Some(WEBHOOK_SIGNATURE),
            Self::Github => Some(HUB_SIGNATURE),
            Self::Stripe => Some(STRIPE_SIGNATURE),
            Self::None => None,
        }
    }
}

/// How the caller of `POST /ingest/{id}` proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum VerifyScheme {
    /// Standard Webhooks: `webhook-id`, `webhook-timestamp` and `webhook-signature`, whose names are fixed.
    Standard,
    /// `sha256=` and hex over the body, in `x-hub-signature-256` or the header given.
    Github,
    /// Hex over the body, with or without `sha256=`, in `x-signature` or the header given.
    Hex,
}

impl VerifyScheme {
    /// Every scheme, in the order of the documentation.
    pub const ALL: [Self; 3] = [Self::Standard, Self::Github, Self::Hex];

    /// The name in the API, in stores and in configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Github => "github",
            Self::Hex => "hex",
        }
    }

    /// The header that carries the signature when none is configured, in lower case.
    #[must_use]
    pub const fn default_header(self) -> &'static str {
        match self {
            Self::Standard => WEBHOOK_SIGNATURE,
            Self::Github => HUB_SIGNATURE,
            Self::Hex => X_SIGNATURE,
        }
    }

    /// Whether another header may be configured. The standard scheme fixes its names.
    #[must_use]
    pub const fn takes_header(self) -> bool {
        matches!(self, Self::Github | Self::Hex)
    }

    /// The scheme that signs with the same bytes of a secret.
    const fn key_scheme(self) -> SignatureScheme {
        match self {
            Self::Standard => SignatureScheme::Standard,
            Self::Github | Self::Hex => SignatureScheme::Github,
        }
    }
}

/// A name that is no scheme's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown scheme: expected one of {expected}")]
pub struct UnknownScheme {
    expected: &'static str,
}

impl FromStr for SignatureScheme {
    type Err = UnknownScheme;

    fn from_str(name: &str) -> Result<Self, UnknownScheme> {
        let expected = "standard, github, stripe, none";
        Self::ALL.into_iter().find(|scheme| scheme.as_str() == name).ok_or(UnknownScheme { expected })
    }
}

impl FromStr for VerifyScheme {
    type Err = UnknownScheme;

    fn from_str(name: &str) -> Result<Self, UnknownScheme> {
        let expected = "standard, github, hex";
        Self::ALL.into_iter().find(|scheme| scheme.as_str() == name).ok_or(UnknownScheme { expected })
    }
}

impl fmt::Display for SignatureScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for VerifyScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An HMAC with its key already mixed in: two of the compressions that a short message costs, done once.
fn keyed(key: &[u8]) -> HmacSha256 {
    #[expect(
        clippy::expect_used,
        reason = "HMAC takes a key of any length; the Result belongs to other constructions"
    )]
    HmacSha256::new_from_slice(key).expect("HMAC takes a key of any length")
}

/// The tag over `pieces` as if they stood in one buffer.
fn tag(key: &HmacSha256, pieces: &[&[u8]]) -> [u8; 32] {
    let mut mac = key.clone();
    for piece in pieces {
        mac.update(piece);
    }
    mac.finalize().into_bytes().into()
}
