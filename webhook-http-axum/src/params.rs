//! Query parameters and ids in paths.
//!
//! A misspelt filter that is silently ignored gives a list of everything, so unknown, repeated, empty and
//! unreadable parameters are refused with 400, each by its name. An id in a path that cannot be an id is
//! 404, as an unknown one is.

use std::convert::Infallible;
use std::fmt::Display;
use std::str::FromStr;

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;
use webhook_core::id::{DeliveryId, EventId, ReplayId, SubscriptionId};
use webhook_core::model::Tenant;
use webhook_core::time::Timestamp;

use crate::problem::Problem;

/// How many rows a page has unless told otherwise.
const DEFAULT_LIMIT: u32 = 50;
/// The most rows that a page has.
const MAX_LIMIT: u32 = 250;

/// The query of a request, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
}

impl Params {
    pub(crate) fn parse(query: Option<&str>) -> Self {
        let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        Self { pairs: pairs.into_owned().collect() }
    }

    /// Refuses parameters other than these and `tenant`, which every route takes, and repeated ones.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Problem> {
        for (position, (name, _)) in self.pairs.iter().enumerate() {
            if name != "tenant" && !known.contains(&name.as_str()) {
                let known = [&["tenant"], known].concat().join(", ");
                return Err(Problem::parameter(name, format!("unknown; this route takes {known}")));
            }
            if self.pairs[..position].iter().any(|(earlier, _)| earlier == name) {
                return Err(Problem::parameter(name, "given more than once"));
            }
        }
        Ok(())
    }

    /// Those that choose rows, in an order of their own: without `limit` and `cursor`.
    pub(crate) fn filters(&self) -> Vec<(&str, &str)> {
        let pairs = self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let mut filters: Vec<_> =
            pairs.filter(|(name, _)| !matches!(*name, "limit" | "cursor" | "tenant")).collect();
        filters.sort_unstable();
        filters
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn parsed<T>(&self, name: &str) -> Result<Option<T>, Problem>
    where
        T: FromStr<Err: Display>,
    {
        let parse = |text: &str| text.parse().map_err(|error| Problem::parameter(name, error));
        self.text(name).map(parse).transpose()
    }

    /// A comma list of names.
    pub(crate) fn names<T: Copy + Display>(&self, name: &str, all: &[T]) -> Result<Vec<T>, Problem> {
        let read = |text: &str| {
            all.iter().copied().find(|known| known.to_string() == text).ok_or_else(|| {
                let all = all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                Problem::parameter(name, format!("expected one or several, separated by commas, of {all}"))
            })
        };
        self.text(name).map_or(Ok(Vec::new()), |list| list.split(',').map(read).collect())
    }

    /// A moment. A `+` that was not escaped reaches us as a space: `…T10:30:00 01:00` is read as it was
    /// meant.
    pub(crate) fn time(&self, name: &str) -> Result<Option<Timestamp>, Problem> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let read = text.parse().or_else(|error| text.replace(' ', "+").parse().map_err(|_| error));
        read.map(Some).map_err(|error| Problem::parameter(name, error))
    }

    pub(crate) fn limit(&self) -> Result<u32, Problem> {
        let Some(text) = self.text("limit") else { return Ok(DEFAULT_LIMIT) };
        let limit = text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
        limit.ok_or_else(|| Problem::parameter("limit", format!("expected 1 to {MAX_LIMIT}")))
    }

    pub(crate) fn tenant(&self) -> Result<Option<Tenant>, Problem> {
        self.parsed("tenant")
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(parts.uri.query()))
    }
}

/// What a path's `{id}` names.
pub(crate) trait Named: FromStr {
    /// For the detail of a 404.
    const WHAT: &str;
}

impl Named for SubscriptionId {
    const WHAT: &str = "subscription";
}

impl Named for EventId {
    const WHAT: &str = "event";
}

impl Named for DeliveryId {
    const WHAT: &str = "delivery";
}

impl Named for ReplayId {
    const WHAT: &str = "replay";
}

/// The `{id}` of a path: the last one, since the path that the router is nested under may have its own.
#[derive(Debug)]
pub(crate) struct Id<T>(pub(crate) T);

impl<T: Named, S: Send + Sync> FromRequestParts<S> for Id<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let missing = || Problem::not_found(T::WHAT);
        let params = RawPathParams::from_request_parts(parts, state).await.map_err(|_| missing())?;
        let id = params.iter().filter(|(name, _)| *name == "id").last().map(|(_, value)| value);
        id.and_then(|id| id.parse().ok()).map(Self).ok_or_else(missing)
    }
}

#[cfg(test)]
mod tests {
    use webhook_core::model::DeliveryStatus;

    use super::*;
    use crate::problem::ProblemCode;

    #[test]
    fn unknown_and_repeated_parameters_are_refused_by_name() {
        for query in ["limt=1", "limit=1&limit=1", "limit=1&Limit=2", "=1"] {
            let problem = Params::parse(Some(query)).only(&["limit"]).unwrap_err();
            assert_eq!(problem.code(), ProblemCode::InvalidParameter, "{query}");
        }
        assert_eq!(Params::parse(Some("limit=1&tenant=a")).only(&["limit"]), Ok(()));
    }

    #[test]
    fn a_plus_that_was_not_escaped_is_read_as_it_was_meant() {
        let expected = "2026-11-21T09:30:00Z".parse().ok();
        for query in ["since=2026-11-21T10:30:00%2B01:00", "since=2026-11-21T10:30:00+01:00"] {
            assert_eq!(Params::parse(Some(query)).time("since"), Ok(expected), "{query}");
        }
        assert!(Params::parse(Some("since=yesterday")).time("since").is_err());
    }

    #[test]
    fn a_list_of_names_has_no_empty_or_unknown_ones() {
        let all = [DeliveryStatus::Pending, DeliveryStatus::Retrying];
        let names = |query| Params::parse(Some(query)).names("status", &all);
        assert_eq!(names(""), Ok(vec![]));
        assert_eq!(names("status=retrying,pending"), Ok(vec![all[1], all[0]]));
        for bad in ["status=", "status=pending,", "status=Pending", "status=done"] {
            assert!(names(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_limit_is_1_to_250() {
        assert_eq!(Params::parse(None).limit(), Ok(50));
        assert_eq!(Params::parse(Some("limit=250")).limit(), Ok(250));
        for bad in ["limit=0", "limit=251", "limit=", "limit=-1", "limit=1.0", "limit=99999999999"] {
            assert!(Params::parse(Some(bad)).limit().is_err(), "{bad}");
        }
    }
}
