//! API keys: who may call, and for which tenant.
//!
//! A key is kept as its SHA-256 hash alone, so that nothing that prints or dumps this process shows one, and a
//! key that is presented is compared with every hash in constant time: how long an answer takes tells neither
//! which key is nearly right nor which one it was. SHA-256 without salt or stretching is enough here, and a slow
//! hash would only make every request slow: keys are long and random, not words that a list could guess.

use std::fmt;

use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue};
use sha2::{Digest as _, Sha256};
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};
use webhook_core::model::Tenant;

use crate::access::Caller;
use crate::problem::{Problem, ProblemCode};

/// Fewest characters of a key.
const SHORTEST: usize = 16;
/// Most characters of a key: more would only be hashed on every request.
const LONGEST: usize = 512;

type Hash = [u8; 32];

/// The keys that a request may carry as `Authorization: Bearer KEY` (RFC 6750); for
/// [`HttpOptions::keys`](crate::HttpOptions::keys).
///
/// A key is written `key`, for an admin, or `tenant:key`, bound to that tenant. It has 16 to 512 visible ASCII
/// characters without `:` and `,`. A request carries the key alone; a bound one may also be sent as it is
/// written, with its tenant in front. `Debug` shows how many there are and nothing of them.
///
/// ```
/// use webhook_http_axum::Keys;
///
/// let mut keys = Keys::new();
/// keys.add("Zm9yIHRoZSBhZG1pbg")?;
/// keys.add("acme:Zm9yIHRoaXMgdGVuYW50")?;
/// assert_eq!(keys.len(), 2);
/// # Ok::<(), webhook_http_axum::KeyError>(())
/// ```
#[derive(Clone, Default)]
pub struct Keys {
    entries: Vec<Entry>,
    count: usize,
}

#[derive(Clone)]
struct Entry {
    hash: Hash,
    caller: Caller,
}

/// Why a text is no key. It never repeats the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// It has too few or too many characters.
    Length,
    /// It has a character that no key has.
    Character,
    /// What stands before the colon is not a tenant.
    Tenant,
    /// It is bound to the tenant of the server's own events, which only admin keys may name.
    Operations,
    /// The same key was added before.
    Repeated,
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => write!(f, "a key has {SHORTEST} to {LONGEST} characters"),
            Self::Character => f.write_str(
                "a key consists of visible ASCII characters without a comma; `tenant:key` binds it",
            ),
            Self::Tenant => f.write_str("before the colon stands a tenant, 1 to 64 of A-Z a-z 0-9 _ . -"),
            Self::Operations => {
                write!(f, "no key can be bound to {}; admin keys may name it", Tenant::OPERATIONS)
            }
            Self::Repeated => f.write_str("the same key is given twice"),
        }
    }
}

impl std::error::Error for KeyError {}

impl Keys {
    /// None: nobody gets in until one is added.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `key` or `tenant:key`.
    ///
    /// # Errors
    /// When the text is neither, or the key is there already.
    pub fn add(&mut self, text: &str) -> Result<(), KeyError> {
        let (tenant, key) = match text.split_once(':') {
            None => (None, text),
            Some((tenant, key)) => (Some(tenant.parse::<Tenant>().map_err(|_| KeyError::Tenant)?), key),
        };
        if !(SHORTEST..=LONGEST).contains(&key.len()) {
            return Err(KeyError::Length);
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b':' | b',')) {
            return Err(KeyError::Character);
        }
        if tenant.as_ref().is_some_and(|tenant| tenant.as_str() == Tenant::OPERATIONS) {
            return Err(KeyError::Operations);
        }
        let written = tenant.as_ref().map(|_| hash(text.as_bytes()));
        let caller = tenant.map_or(Caller::admin(), Caller::of);
        let hash = hash(key.as_bytes());
        if self.entries.iter().any(|entry| entry.hash == hash) {
            return Err(KeyError::Repeated);
        }
        for hash in [Some(hash), written].into_iter().flatten() {
            self.entries.push(Entry { hash, caller: caller.clone() });
        }
        self.count += 1;
        Ok(())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whose request this is.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let presented =
            bearer(headers).ok_or_else(|| refused("the request carries no `Authorization: Bearer KEY`"))?;
        self.find(presented).ok_or_else(|| refused("the key of the request is not one of this server's"))
    }

    /// The holder of a key. Looks at every key, whichever fits.
    fn find(&self, presented: &[u8]) -> Option<Caller> {
        let presented = hash(presented);
        let mut found = u64::MAX;
        for (position, entry) in (0_u64..).zip(&self.entries) {
            found.conditional_assign(&position, entry.hash.ct_eq(&presented));
        }
        let position = usize::try_from(found).ok()?;
        self.entries.get(position).map(|entry| entry.caller.clone())
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.count)
    }
}

fn hash(key: &[u8]) -> Hash {
    Sha256::digest(key).into()
}

/// The token of the one `Authorization` header. The scheme's name has no case (RFC 9110, section 11.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    let one = values.next().is_none() && scheme.eq_ignore_ascii_case(b"Bearer ");
    one.then(|| token.trim_ascii())
}

fn refused(detail: &str) -> Problem {
    Problem::new(ProblemCode::Unauthorized, detail)
        .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADMIN: &str = "0123456789abcdef";
    const BOUND: &str = "fedcba9876543210";

    fn keys() -> Keys {
        let mut keys = Keys::new();
        keys.add(ADMIN).unwrap();
        keys.add(&format!("acme:{BOUND}")).unwrap();
        keys.add("other:+/=~._-!\"#$%&'()*;<>?@[]^`{|}").unwrap();
        keys
    }

    fn carrying(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_key_is_its_holder_and_any_other_text_is_nobody() {
        let keys = keys();
        let caller = |value: &str| keys.caller(&carrying(&[value]));
        let acme = Ok(Caller::of("acme".parse().unwrap()));
        assert_eq!(caller(&format!("Bearer {ADMIN}")), Ok(Caller::admin()));
        assert_eq!(caller(&format!("bearer  {ADMIN} ")), Ok(Caller::admin()));
        assert_eq!(caller(&format!("Bearer {BOUND}")), acme);
        assert_eq!(caller(&format!("Bearer acme:{BOUND}")), acme);
        for wrong in [
            ADMIN.to_owned(),
            format!("Basic {ADMIN}"),
            format!("Bearer{ADMIN}"),
            format!("Bearer {}", &ADMIN[1..]),
            format!("Bearer {ADMIN}0"),
            format!("Bearer {}", ADMIN.to_uppercase()),
            format!("Bearer other:{BOUND}"),
            format!("Bearer default:{ADMIN}"),
            format!("Bearer :{ADMIN}"),
            "Bearer ".to_owned(),
            "Bearer".to_owned(),
            String::new(),
        ] {
            let problem = caller(&wrong).unwrap_err();
            assert_eq!(problem.code(), ProblemCode::Unauthorized, "{wrong}");
        }
        assert!(keys.caller(&HeaderMap::new()).is_err());
        let twice = carrying(&[&format!("Bearer {ADMIN}"), &format!("Bearer {ADMIN}")]);
        assert!(keys.caller(&twice).is_err(), "two headers mean two things");
        let mut bytes = HeaderMap::new();
        bytes.insert(AUTHORIZATION, HeaderValue::from_bytes(b"Bearer \xff\xfe").unwrap());
        assert!(keys.caller(&bytes).is_err());
    }

    #[test]
    fn without_a_key_nobody_is_known() {
        let keys = Keys::new();
        assert!(keys.is_empty());
        assert!(keys.caller(&carrying(&[&format!("Bearer {ADMIN}")])).is_err());
    }

    #[test]
    fn a_text_that_is_no_key_says_why_and_is_not_repeated() {
        let long = "x".repeat(513);
        for (text, error) in [
            ("", KeyError::Length),
            ("0123456789abcde", KeyError::Length),
            (&*long, KeyError::Length),
            ("acme:", KeyError::Length),
            ("acme:0123456789abcde", KeyError::Length),
            ("0123456789 abcdef", KeyError::Character),
            ("0123456789,abcdef", KeyError::Character),
            ("0123456789äbcdef", KeyError::Character),
            ("acme:0123456789:abcdef", KeyError::Character),
            (":0123456789abcdef", KeyError::Tenant),
            ("a/b:0123456789abcdef", KeyError::Tenant),
            ("*:0123456789abcdef", KeyError::Tenant),
            ("_operations:0123456789abcdef", KeyError::Operations),
        ] {
            let mut keys = Keys::new();
            assert_eq!(keys.add(text), Err(error), "{text}");
            assert!(keys.is_empty());
            assert!(!error.to_string().contains("0123456789"));
        }
        let mut keys = keys();
        for again in [ADMIN.to_owned(), format!("acme:{ADMIN}"), BOUND.to_owned(), format!("b:{BOUND}")] {
            assert_eq!(keys.add(&again), Err(KeyError::Repeated), "{again}");
        }
        assert_eq!(keys.len(), 3);
    }

    #[test]
    fn nothing_of_a_key_is_shown() {
        let shown = format!("{:?} {:#?}", keys(), crate::HttpOptions::new().keys(keys()));
        assert!(!shown.contains(ADMIN) && !shown.contains(BOUND) && !shown.contains("acme"), "{shown}");
        assert!(shown.starts_with("Keys(3) ") && shown.contains("keys: Some("), "{shown}");
    }
}
