//! Which headers a subscription may set.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;

use crate::signature::SignatureScheme;

/// Most headers that a subscription may set.
pub const MAX_HEADERS: usize = 20;
/// Most bytes of all names and values together.
pub const MAX_HEADER_BYTES: usize = 8 * 1024;
/// What stands in place of a value that is not shown.
pub const MASK: &str = "***";

/// The request's own: framing, connection and representation belong to the deliverer.
const OWN_NAMES: &[&str] = &[
    "connection",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
const OWN_PREFIXES: &[&str] = &["content-", "proxy-", "webhook-", "x-forwarded-"];

/// Without these headers, services that hand out a cloud's credentials refuse to answer: Google, IBM and
/// Yandex, Azure, Linode, AWS, Alibaba. They are a second lock behind the rules for addresses.
const CLOUD_METADATA_NAMES: &[&str] =
    &["metadata", "metadata-flavor", "metadata-token", "metadata-token-expiry-seconds"];
const CLOUD_METADATA_PREFIXES: &[&str] =
    &["x-aliyun-ecs-metadata-", "x-aws-ec2-metadata-", "x-google-metadata-"];

const MASKED_NAMES: &[&str] = &["authorization", "x-api-key", "x-auth-token"];

/// Checks the headers that a subscription wants on its requests, for a subscription signed with `scheme`.
///
/// At most [`MAX_HEADERS`] of [`MAX_HEADER_BYTES`] together. Names are tokens and values visible ASCII with
/// spaces and tabs inside (RFC 9110, sections 5.1 and 5.5; bytes above ASCII, which it keeps for old senders
/// only, are refused). Names that this service, the connection or a cloud's metadata service owns are
/// refused, and so is one name in two spellings. `user-agent` may be set.
///
/// Check again when a subscription's scheme changes: each scheme owns its signature's header.
///
/// ```
/// use std::collections::BTreeMap;
/// use webhook_core::signature::SignatureScheme;
/// use webhook_core::target::{HeaderProblem, check_headers};
///
/// let mut headers = BTreeMap::from([("Authorization".to_owned(), "Bearer abc".to_owned())]);
/// assert!(check_headers(&headers, SignatureScheme::Standard).is_ok());
///
/// headers.insert("Webhook-Id".to_owned(), "mine".to_owned());
/// let error = check_headers(&headers, SignatureScheme::Standard).unwrap_err();
/// assert_eq!((error.name.as_deref(), error.problem), (Some("Webhook-Id"), HeaderProblem::Owned));
/// ```
///
/// # Errors
///
/// [`HeaderError`] with the first header that is refused. It never repeats a value.
pub fn check_headers(headers: &BTreeMap<String, String>, scheme: SignatureScheme) -> Result<(), HeaderError> {
    let whole = |problem| Err(HeaderError { name: None, problem });
    if headers.len() > MAX_HEADERS {
        return whole(HeaderProblem::TooMany);
    }
    if headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > MAX_HEADER_BYTES {
        return whole(HeaderProblem::TooLarge);
    }
    let mut seen = BTreeSet::new();
    for (name, value) in headers {
        let lower = name.to_ascii_lowercase();
        let problem = problem_of(&lower, value, scheme)
            .or_else(|| (!seen.insert(lower)).then_some(HeaderProblem::Repeated));
        if let Some(problem) = problem {
            return Err(HeaderError { name: Some(name.clone()), problem });
        }
    }
    Ok(())
}

fn problem_of(lower: &str, value: &str, scheme: SignatureScheme) -> Option<HeaderProblem> {
    let any_prefix = |prefixes: &[&str]| prefixes.iter().any(|prefix| lower.starts_with(prefix));
    if lower.is_empty() || !lower.bytes().all(is_token_byte) {
        Some(HeaderProblem::InvalidName)
    } else if scheme.header_name() == Some(lower) {
        Some(HeaderProblem::Signature)
    } else if OWN_NAMES.contains(&lower) || any_prefix(OWN_PREFIXES) {
        Some(HeaderProblem::Owned)
    } else if CLOUD_METADATA_NAMES.contains(&lower) || any_prefix(CLOUD_METADATA_PREFIXES) {
        Some(HeaderProblem::CloudMetadata)
    } else if !value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
        Some(HeaderProblem::InvalidValue)
    } else if value.trim_ascii().len() != value.len() {
        Some(HeaderProblem::PaddedValue)
    } else {
        None
    }
}

/// RFC 9110, section 5.6.2.
const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Whether the value of this header is a credential and reads back as [`MASK`]: `authorization`, `x-api-key`,
/// `x-auth-token`, in any case.
///
/// ```
/// assert!(webhook_core::target::is_masked_header("X-Api-Key"));
/// assert!(!webhook_core::target::is_masked_header("X-Request-Id"));
/// ```
#[must_use]
pub fn is_masked_header(name: &str) -> bool {
    MASKED_NAMES.iter().any(|masked| name.eq_ignore_ascii_case(masked))
}

/// A header that a subscription may not set, or headers that are too many together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderError {
    /// The header as it was spelled; none when all of them together are the problem.
    pub name: Option<String>,
    /// What is wrong with it.
    pub problem: HeaderProblem,
}

impl Error for HeaderError {}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "header {name:?}: {}", self.problem),
            None => self.problem.fmt(f),
        }
    }
}

/// What is wrong with a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderProblem {
    /// More than [`MAX_HEADERS`].
    #[error("more than {MAX_HEADERS} headers")]
    TooMany,
    /// More than [`MAX_HEADER_BYTES`].
    #[error("names and values have more than {MAX_HEADER_BYTES} bytes together")]
    TooLarge,
    /// Not a token.
    #[error("a name is made of letters, digits and !#$%&'*+-.^_`|~, without spaces or a colon")]
    InvalidName,
    /// Control characters or characters beyond ASCII.
    #[error("a value is made of visible ASCII characters, spaces and tabs; encode anything else")]
    InvalidValue,
    /// Space before or after the value, which receivers drop.
    #[error("a value must not begin or end with a space or tab")]
    PaddedValue,
    /// Set by this service or by the connection.
    #[error("is set by the sender and cannot be replaced")]
    Owned,
    /// The header of the subscription's own signature.
    #[error("carries the signature of this subscription's scheme")]
    Signature,
    /// A key to a cloud's metadata service.
    #[error("belongs to the metadata services of clouds and is never sent")]
    CloudMetadata,
    /// The same name twice; case does not matter.
    #[error("is given twice in two spellings; names do not depend on case")]
    Repeated,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    fn problem(name: &str, value: &str, scheme: SignatureScheme) -> Option<HeaderProblem> {
        check_headers(&headers([(name, value)]), scheme).err().map(|error| {
            assert_eq!(error.name.as_deref(), Some(name));
            error.problem
        })
    }

    #[test]
    fn headers_of_others_are_refused_in_any_case() {
        use HeaderProblem::{CloudMetadata, Owned};
        for (name, expected) in [
            ("host", Owned),
            ("content-type", Owned),
            ("content-length", Owned),
            ("content-encoding", Owned),
            ("transfer-encoding", Owned),
            ("connection", Owned),
            ("upgrade", Owned),
            ("te", Owned),
            ("trailer", Owned),
            ("expect", Owned),
            ("keep-alive", Owned),
            ("cookie", Owned),
            ("proxy-authorization", Owned),
            ("proxy-connection", Owned),
            ("x-forwarded-for", Owned),
            ("x-forwarded-host", Owned),
            ("webhook-id", Owned),
            ("webhook-event-type", Owned),
            ("webhook-anything", Owned),
            ("metadata", CloudMetadata),
            ("metadata-flavor", CloudMetadata),
            ("metadata-token", CloudMetadata),
            ("x-google-metadata-request", CloudMetadata),
            ("x-aws-ec2-metadata-token", CloudMetadata),
            ("x-aws-ec2-metadata-token-ttl-seconds", CloudMetadata),
            ("x-aliyun-ecs-metadata-token", CloudMetadata),
        ] {
            for name in [name.to_owned(), name.to_uppercase()] {
                assert_eq!(problem(&name, "x", SignatureScheme::None), Some(expected), "{name}");
            }
        }
        for name in [
            "User-Agent",
            "Authorization",
            "X-Api-Key",
            "Accept",
            "X-Content-Id",
            "Hosts",
            "X-Webhook",
            "Tea",
        ] {
            assert_eq!(problem(name, "x", SignatureScheme::Standard), None, "{name}");
        }
    }

    #[test]
    fn each_scheme_owns_its_signature_header() {
        use SignatureScheme::{Github, None as Unsigned, Standard, Stripe};
        for (name, owner) in
            [("X-Hub-Signature-256", Github), ("Stripe-Signature", Stripe), ("Webhook-Signature", Standard)]
        {
            assert_eq!(problem(name, "x", owner), Some(HeaderProblem::Signature), "{name}");
        }
        assert_eq!(problem("X-Hub-Signature-256", "x", Standard), None);
        assert_eq!(problem("Stripe-Signature", "x", Unsigned), None);
        assert_eq!(problem("Webhook-Signature", "x", Unsigned), Some(HeaderProblem::Owned));
    }

    #[test]
    fn names_and_values_follow_rfc_9110() {
        use HeaderProblem::{InvalidName, InvalidValue, PaddedValue};
        for (name, value, expected) in [
            ("", "x", Some(InvalidName)),
            ("x y", "x", Some(InvalidName)),
            ("x:", "x", Some(InvalidName)),
            (":path", "x", Some(InvalidName)),
            ("x\r\nhost", "x", Some(InvalidName)),
            ("x-é", "x", Some(InvalidName)),
            ("x(1)", "x", Some(InvalidName)),
            ("!#$%&'*+-.^_`|~09az", "x", None),
            ("x", "", None),
            ("x", "a b\tc ~!\"", None),
            ("x", "a\r\nb: c", Some(InvalidValue)),
            ("x", "a\n", Some(InvalidValue)),
            ("x", "a\0", Some(InvalidValue)),
            ("x", "\u{7f}", Some(InvalidValue)),
            ("x", "é", Some(InvalidValue)),
            ("x", " a", Some(PaddedValue)),
            ("x", "a\t", Some(PaddedValue)),
        ] {
            assert_eq!(problem(name, value, SignatureScheme::Standard), expected, "{name:?}: {value:?}");
        }
    }

    #[test]
    fn headers_are_limited_in_number_and_size_and_named_once() {
        let check = |headers: &BTreeMap<String, String>| {
            check_headers(headers, SignatureScheme::Standard).map_err(|error| (error.name, error.problem))
        };
        let many =
            |count: usize| (0..count).map(|n| (format!("x-{n}"), String::new())).collect::<BTreeMap<_, _>>();
        assert_eq!(check(&many(20)), Ok(()));
        assert_eq!(check(&many(21)), Err((None, HeaderProblem::TooMany)));

        let sized = |bytes: usize| headers([("x-big", "v".repeat(bytes - 5).as_str())]);
        assert_eq!(check(&sized(8 * 1024)), Ok(()));
        assert_eq!(check(&sized(8 * 1024 + 1)), Err((None, HeaderProblem::TooLarge)));

        let twice = headers([("X-Team", "a"), ("x-team", "a")]);
        assert_eq!(check(&twice), Err((Some("x-team".to_owned()), HeaderProblem::Repeated)));
    }

    #[test]
    fn header_errors_show_names_and_no_values() {
        let error = check_headers(&headers([("x-key", "s3cret\n")]), SignatureScheme::Standard).unwrap_err();
        assert!(error.to_string().starts_with("header \"x-key\": "), "{error}");
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }

    #[test]
    fn credentials_are_masked_in_any_case() {
        for name in ["authorization", "Authorization", "X-API-KEY", "x-auth-token"] {
            assert!(is_masked_header(name), "{name}");
        }
        for name in ["x-api-key-id", "user-agent", "proxy-authorization", ""] {
            assert!(!is_masked_header(name), "{name}");
        }
    }
}
