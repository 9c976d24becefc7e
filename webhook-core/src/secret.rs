//! Signing secrets: what a subscription signs with, and what `POST /ingest/{id}` verifies with.
//!
//! This module owes its users two things: text that a person typed is accepted by the rules of the API or
//! refused with the rule it broke, and the text never leaves by accident. So a [`Secret`] has no `Display`
//! and no serde, its `Debug` is `Secret(***)`, it is compared in constant time and overwritten when dropped;
//! [`Secret::expose`] is the one way out, easy to find in a review.
//!
//! # Which bytes sign
//!
//! The [Standard Webhooks] specification writes a secret as `whsec_` and base64 of 24 to 64 bytes, and signs
//! with the decoded bytes. Receivers of the GitHub and Stripe schemes and of plain hex HMACs use a secret's
//! characters as they are, whatever it looks like. The same secret is therefore another key in another
//! scheme: see [`Secret::key_bytes`].
//!
//! # Padding
//!
//! Base64 after `whsec_` must be canonical: the standard alphabet, padded, no stray bits in the last
//! character. Some of the reference libraries decode unpadded text too (Python, Java), others refuse it
//! (Rust, Go, C#, Elixir). Accepted here, such a secret would sign deliveries that receivers with the latter
//! cannot even set up to verify; refused at write time, the caller learns it at once.
//!
//! [Standard Webhooks]: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

use std::fmt;
use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rand::Rng as _;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::signature::{SignatureScheme, VerifyScheme};

/// What a Standard Webhooks secret starts with.
pub const PREFIX: &str = "whsec_";

const KEY_BYTES: RangeInclusive<usize> = 24..=64;
const GENERATED_BYTES: usize = 32;
const CHARACTERS: RangeInclusive<usize> = 16..=128;
/// For secrets that somebody else chose and that cannot be changed here.
const FOREIGN_CHARACTERS: RangeInclusive<usize> = 1..=128;

/// A signing secret: redacted in `Debug`, compared in constant time, overwritten on drop.
///
/// ```
/// use webhook_core::secret::Secret;
/// use webhook_core::signature::SignatureScheme;
///
/// let secret = Secret::generate();
/// assert!(secret.expose().starts_with("whsec_"));
/// assert_eq!(format!("{secret:?}"), "Secret(***)");
///
/// let typed = Secret::parse("correct horse battery staple", SignatureScheme::Standard)?;
/// assert_ne!(typed, secret);
/// # Ok::<(), webhook_core::secret::SecretError>(())
/// ```
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Makes a secret from 32 random bytes: `whsec_` and their base64, fit for every scheme.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "the one place that makes secrets")]
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0_u8; GENERATED_BYTES]);
        rand::rng().fill_bytes(&mut bytes[..]);
        // Sized up front: growing would leave a copy behind that nothing overwrites.
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + GENERATED_BYTES.div_ceil(3) * 4));
        text.push_str(PREFIX);
        BASE64.encode_string(&bytes[..], &mut text);
        Self(text)
    }

    /// Accepts a secret for signing with `scheme`.
    ///
    /// `whsec_` and padded base64 of 24 to 64 bytes, or any text of 16 to 128 characters. With
    /// [`SignatureScheme::Standard`] whatever starts with `whsec_` must be the first; the other schemes take
    /// it as plain characters. [`SignatureScheme::Github`] takes from one character on, as its users bring
    /// the secret that they already have.
    ///
    /// A secret accepted for one scheme may not fit another: parse it again when a subscription's scheme
    /// changes.
    ///
    /// # Errors
    ///
    /// [`SecretError`] names the rule that was broken and never repeats the text.
    pub fn parse(text: &str, scheme: SignatureScheme) -> Result<Self, SecretError> {
        match scheme {
            SignatureScheme::Standard if text.starts_with(PREFIX) => {
                decode(text)?;
            }
            SignatureScheme::Standard | SignatureScheme::Stripe | SignatureScheme::None => {
                check_characters(text, CHARACTERS)?;
            }
            SignatureScheme::Github => check_characters(text, FOREIGN_CHARACTERS)?,
        }
        Ok(Self::from_stored(text.to_owned()))
    }

    /// Accepts a secret for verifying what others send, by the rules of [`Secret::parse`]; with
    /// [`VerifyScheme::Github`] and [`VerifyScheme::Hex`] from one character on, as the sender chose it.
    ///
    /// # Errors
    ///
    /// [`SecretError`] names the rule that was broken and never repeats the text.
    pub fn parse_for_verify(text: &str, scheme: VerifyScheme) -> Result<Self, SecretError> {
        match scheme {
            VerifyScheme::Standard => Self::parse(text, SignatureScheme::Standard),
            VerifyScheme::Github | VerifyScheme::Hex => Self::parse(text, SignatureScheme::Github),
        }
    }

    /// Takes back what a store kept. Nothing is checked: it was when it came in.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself, for a store and for the answers that show a secret on purpose.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The HMAC key for `scheme`: with [`SignatureScheme::Standard`] the decoded bytes of a `whsec_` secret
    /// and the characters of any other, the characters with the rest.
    ///
    /// ```
    /// use webhook_core::secret::Secret;
    /// use webhook_core::signature::SignatureScheme;
    ///
    /// let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", SignatureScheme::Standard)?;
    /// assert_eq!(secret.key_bytes(SignatureScheme::Standard).len(), 24);
    /// assert_eq!(&secret.key_bytes(SignatureScheme::Stripe)[..], secret.expose().as_bytes());
    /// # Ok::<(), webhook_core::secret::SecretError>(())
    /// ```
    #[must_use]
    pub fn key_bytes(&self, scheme: SignatureScheme) -> Zeroizing<Vec<u8>> {
        match scheme {
            SignatureScheme::Standard => decode(&self.0).unwrap_or_else(|_| self.character_bytes()),
            SignatureScheme::Github | SignatureScheme::Stripe | SignatureScheme::None => {
                self.character_bytes()
            }
        }
    }

    fn character_bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.as_bytes().to_vec())
    }
}

/// The bytes of a `whsec_` secret.
fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let encoded = text.strip_prefix(PREFIX).ok_or(SecretError::NotBase64)?;
    let key = BASE64.decode(encoded).map(Zeroizing::new).map_err(|_| SecretError::NotBase64)?;
    if KEY_BYTES.contains(&key.len()) { Ok(key) } else { Err(SecretError::KeyLength) }
}

fn check_characters(text: &str, allowed: RangeInclusive<usize>) -> Result<(), SecretError> {
    if !allowed.contains(&text.chars().count()) {
        return Err(SecretError::Length { min: *allowed.start(), max: *allowed.end() });
    }
    if text.contains('\0') {
        return Err(SecretError::Nul);
    }
    Ok(())
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// Compares in a time that depends on the lengths alone.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

/// The rule that a refused secret broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// Too short or too long.
    #[error("a secret must have {min} to {max} characters")]
    Length {
        /// Fewest characters that the scheme takes.
        min: usize,
        /// Most characters that the scheme takes.
        max: usize,
    },
    /// `whsec_` is followed by something else than padded standard base64.
    #[error(
        "`whsec_` must be followed by standard base64 with its padding; leave the prefix out to sign with plain characters"
    )]
    NotBase64,
    /// The base64 behind `whsec_` holds too few or too many bytes.
    #[error("the base64 after `whsec_` must decode to 24 to 64 bytes")]
    KeyLength,
    /// U+0000, which not every store can keep in a text.
    #[error("a secret must not contain the character U+0000")]
    Nul,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whsec(bytes: usize) -> String {
        format!("{PREFIX}{}", BASE64.encode(vec![0xfb_u8; bytes]))
    }

    #[test]
    fn a_generated_secret_is_whsec_and_base64_of_32_bytes_and_never_the_same() {
        let secret = Secret::generate();
        assert_eq!(secret.key_bytes(SignatureScheme::Standard).len(), 32);
        assert_eq!(secret.expose().len(), 50);
        assert_eq!(Secret::parse(secret.expose(), SignatureScheme::Standard).as_ref(), Ok(&secret));
        assert_ne!(secret, Secret::generate());
    }

    #[test]
    fn standard_takes_whsec_secrets_of_24_to_64_bytes() {
        for (bytes, expected) in
            [(0, false), (16, false), (23, false), (24, true), (32, true), (64, true), (65, false)]
        {
            let parsed = Secret::parse(&whsec(bytes), SignatureScheme::Standard);
            assert_eq!(parsed.err(), (!expected).then_some(SecretError::KeyLength), "{bytes} bytes");
        }
    }

    #[test]
    fn standard_refuses_whatever_else_follows_whsec() {
        let unpadded = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        for text in [unpadded, "whsec_not base64, but long enough", "whsec_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_-_"]
        {
            assert_eq!(Secret::parse(text, SignatureScheme::Standard), Err(SecretError::NotBase64), "{text}");
            for scheme in [SignatureScheme::Github, SignatureScheme::Stripe, SignatureScheme::None] {
                assert!(Secret::parse(text, scheme).is_ok(), "{text} as plain characters of {scheme}");
            }
        }
        assert_eq!(Secret::parse(&format!("{unpadded}=="), SignatureScheme::Standard).err(), None);
    }

    #[test]
    fn plain_secrets_are_counted_in_characters() {
        let long = SecretError::Length { min: 16, max: 128 };
        let foreign = SecretError::Length { min: 1, max: 128 };
        for (scheme, characters, error) in [
            (SignatureScheme::Standard, 15, Some(long)),
            (SignatureScheme::Standard, 16, None),
            (SignatureScheme::Standard, 128, None),
            (SignatureScheme::Standard, 129, Some(long)),
            (SignatureScheme::Stripe, 15, Some(long)),
            (SignatureScheme::None, 15, Some(long)),
            (SignatureScheme::Github, 0, Some(foreign)),
            (SignatureScheme::Github, 1, None),
            (SignatureScheme::Github, 128, None),
            (SignatureScheme::Github, 129, Some(foreign)),
        ] {
            for character in ["x", "é", "🔑"] {
                let parsed = Secret::parse(&character.repeat(characters), scheme);
                assert_eq!(parsed.err(), error, "{characters} × {character} with {scheme}");
            }
        }
        assert_eq!(Secret::parse("sixteen characters\0", SignatureScheme::Standard), Err(SecretError::Nul));
    }

    #[test]
    fn senders_choose_the_secrets_that_verify_them() {
        assert!(Secret::parse_for_verify("s3cret", VerifyScheme::Github).is_ok());
        assert!(Secret::parse_for_verify("s3cret", VerifyScheme::Hex).is_ok());
        assert!(Secret::parse_for_verify("s3cret", VerifyScheme::Standard).is_err());
        assert!(Secret::parse_for_verify("whsec_short", VerifyScheme::Standard).is_err());
    }

    #[test]
    fn the_key_of_a_whsec_secret_is_decoded_with_standard_alone() {
        let secret = Secret::from_stored(whsec(24));
        assert_eq!(&secret.key_bytes(SignatureScheme::Standard)[..], [0xfb; 24]);
        assert_eq!(&secret.key_bytes(SignatureScheme::Github)[..], secret.expose().as_bytes());
        assert_eq!(&secret.key_bytes(SignatureScheme::Stripe)[..], secret.expose().as_bytes());
        let plain = Secret::from_stored("sixteen or more characters".to_owned());
        assert_eq!(&plain.key_bytes(SignatureScheme::Standard)[..], plain.expose().as_bytes());
    }

    proptest! {
        #[test]
        fn no_debug_output_and_no_error_repeats_a_secret(text in "[a-zA-Z0-9+/=]{8,140}", prefixed: bool) {
            let text = if prefixed { format!("{PREFIX}{text}") } else { text };
            for scheme in SignatureScheme::ALL {
                let shown = match Secret::parse(&text, scheme) {
                    Ok(secret) => format!("{secret:?} {secret:#?}"),
                    Err(error) => format!("{error} {error:?}"),
                };
                prop_assert!(!shown.contains(&text[text.len() - 8..]));
            }
        }
    }
}
