//! Signing: what a receiver finds in the signature header.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{HmacSha256, SHA256_PREFIX, SignatureScheme, keyed, tag};
use crate::secret::Secret;

/// `v1,`, 44 characters of base64 and a space.
const STANDARD_SIGNATURE_LEN: usize = 48;
const HEX_LEN: usize = 64;

/// A signature as a header of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureHeader {
    /// In lower case.
    pub name: &'static str,
    /// Visible ASCII and spaces.
    pub value: String,
}

/// The keys of one subscription, ready to sign with.
///
/// A secret is decoded and mixed in once, instead of for every attempt (two compressions and an allocation
/// each): a worker makes one `Signer` for each subscription it loads. The keys are overwritten on drop.
///
/// ```
/// use webhook_core::secret::Secret;
/// use webhook_core::signature::{SignatureScheme, Signer};
///
/// let secrets = [Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", SignatureScheme::Standard)?];
/// let signer = Signer::new(SignatureScheme::Standard, &secrets);
/// let body = br#"{"test": 2432232314}"#;
/// let header = signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body).unwrap();
/// assert_eq!(header.name, "webhook-signature");
/// assert_eq!(header.value, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
/// # Ok::<(), webhook_core::secret::SecretError>(())
/// ```
#[derive(Clone)]
pub struct Signer {
    scheme: SignatureScheme,
    keys: Vec<HmacSha256>,
}

impl Signer {
    /// Prepares `secrets`, newest first. Schemes with one signature use the first alone.
    #[must_use]
    pub fn new(scheme: SignatureScheme, secrets: &[Secret]) -> Self {
        let used = match scheme {
            SignatureScheme::Standard => secrets.len(),
            SignatureScheme::Github | SignatureScheme::Stripe => 1,
            SignatureScheme::None => 0,
        };
        let keys = secrets.iter().take(used).map(|secret| keyed(&secret.key_bytes(scheme))).collect();
        Self { scheme, keys }
    }

    /// The scheme that it signs with.
    #[must_use]
    pub fn scheme(&self) -> SignatureScheme {
        self.scheme
    }

    /// Signs one attempt: the event's `id` (without a full stop, which the standard scheme separates by), the
    /// unix seconds sent as `webhook-timestamp`, and the body exactly as it is sent.
    ///
    /// `None` with [`SignatureScheme::None`], and when there was no secret: a caller whose scheme signs must
    /// treat the latter as a failure and not send without a signature.
    #[must_use]
    pub fn sign(&self, id: &str, unix_seconds: i64, body: &[u8]) -> Option<SignatureHeader> {
        let name = self.scheme.header_name()?;
        let newest = self.keys.first()?;
        let value = match self.scheme {
            SignatureScheme::Standard => {
                let timestamp = unix_seconds.to_string();
                let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
                let mut value = String::with_capacity(self.keys.len() * STANDARD_SIGNATURE_LEN);
                for key in &self.keys {
                    value.push_str(if value.is_empty() { "v1," } else { " v1," });
                    BASE64.encode_string(tag(key, &signed), &mut value);
                }
                value
            }
            SignatureScheme::Github => {
                let mut value = String::with_capacity(SHA256_PREFIX.len() + HEX_LEN);
                value.push_str(SHA256_PREFIX);
                push_hex(&mut value, &tag(newest, &[body]));
                value
            }
            SignatureScheme::Stripe => {
                let timestamp = unix_seconds.to_string();
                let mut value = String::with_capacity("t=,v1=".len() + timestamp.len() + HEX_LEN);
                value.push_str("t=");
                value.push_str(&timestamp);
                value.push_str(",v1=");
                push_hex(&mut value, &tag(newest, &[timestamp.as_bytes(), b".", body]));
                value
            }
            SignatureScheme::None => return None,
        };
        Some(SignatureHeader { name, value })
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("scheme", &self.scheme).field("keys", &self.keys.len()).finish()
    }
}

/// Signs once; to sign more than once with the same secrets, keep a [`Signer`].
///
/// `secrets` are newest first. `None` is returned as by [`Signer::sign`].
///
/// ```
/// use webhook_core::secret::Secret;
/// use webhook_core::signature::{SignatureScheme, sign};
///
/// // The example of GitHub's documentation.
/// let secrets = [Secret::parse("It's a Secret to Everybody", SignatureScheme::Github)?];
/// let header = sign(SignatureScheme::Github, &secrets, "unused", 0, b"Hello, World!").unwrap();
/// assert_eq!(header.name, "x-hub-signature-256");
/// assert_eq!(header.value, "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17");
/// # Ok::<(), webhook_core::secret::SecretError>(())
/// ```
#[must_use]
pub fn sign(
    scheme: SignatureScheme,
    secrets: &[Secret],
    id: &str,
    unix_seconds: i64,
    body: &[u8],
) -> Option<SignatureHeader> {
    Signer::new(scheme, secrets).sign(id, unix_seconds, body)
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 0xf)]));
    }
}
