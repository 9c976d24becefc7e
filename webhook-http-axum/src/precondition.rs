//! `If-Match` (RFC 9110, section 13.1.1) over the version of a subscription, whose `ETag` is `"VERSION"`.

use http::header::IF_MATCH;
use http::{HeaderMap, HeaderValue};

use crate::problem::Problem;

/// What a request demands of the version that it changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Precondition {
    /// Nothing, or `*`: whatever is stored.
    Any,
    /// One of these entity tags, without their quotes.
    Tags(Vec<String>),
}

impl Precondition {
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let refuse = || Problem::parameter("If-Match", "expected `\"VERSION\"` with its quotes, or `*`");
        let mut tags = Vec::new();
        let mut given = false;
        for value in headers.get_all(IF_MATCH) {
            given = true;
            for tag in value.to_str().map_err(|_| refuse())?.split(',').map(str::trim) {
                match tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) {
                    Some(tag) => tags.push(tag.to_owned()),
                    None if tag == "*" => return Ok(Self::Any),
                    // Weak tags never match: the comparison is the strong one.
                    None if tag.starts_with("W/\"") && tag.ends_with('"') => {}
                    None => return Err(refuse()),
                }
            }
        }
        Ok(if given { Self::Tags(tags) } else { Self::Any })
    }

    /// Refuses a version that is not demanded, with 412.
    pub(crate) fn check(&self, version: u64) -> Result<(), Problem> {
        match self {
            Self::Any => Ok(()),
            Self::Tags(tags) if tags.iter().any(|tag| *tag == version.to_string()) => Ok(()),
            Self::Tags(_) => Err(Problem::version_mismatch(version)),
        }
    }

    /// Whether the caller named a version.
    pub(crate) fn names_a_version(&self) -> bool {
        matches!(self, Self::Tags(_))
    }
}

/// The `ETag` of a version.
pub(crate) fn etag(version: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{version}\"")).unwrap_or(const { HeaderValue::from_static("\"\"") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&'static str]) -> Result<Precondition, Problem> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IF_MATCH, HeaderValue::from_static(value));
        }
        Precondition::read(&headers)
    }

    #[test]
    fn a_version_matches_one_of_the_tags() {
        for (values, version, expected) in [
            (&[][..], 3, true),
            (&["*"], 3, true),
            (&["\"3\""], 3, true),
            (&["\"3\""], 4, false),
            (&["\"1\", \"4\""], 4, true),
            (&["\"1\"", "\"4\""], 4, true),
            (&["W/\"4\""], 4, false),
            (&["\"abc\""], 4, false),
            (&["\"04\""], 4, false),
        ] {
            assert_eq!(read(values).unwrap().check(version).is_ok(), expected, "{values:?} {version}");
        }
        for bad in ["3", "\"3", "", "\"3\","] {
            assert!(read(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_etag_is_the_quoted_version() {
        assert_eq!(etag(u64::MAX), "\"18446744073709551615\"");
    }
}
