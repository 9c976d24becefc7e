//! Pages of a list, and the cursors between them.
//!
//! A cursor is the id of the last row of a page, sealed with a digest of the list it belongs to: its route,
//! its tenant and its filters. So a cursor of another list, of other filters, of another version or made up
//! by hand is refused rather than answered with rows that fit nothing. `limit` may change between pages.
//! There is no secret in it and none is needed: it grants nothing that the list itself would not.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::Serialize;
use sha2::{Digest, Sha256};
use webhook_core::id::{AttemptId, DeliveryId, EventId, SubscriptionId};
use webhook_core::store::PageRequest;

use crate::access::Scope;
use crate::params::Params;
use crate::problem::{Problem, ProblemCode};

/// Raised when the meaning of a cursor changes, so that older ones are refused.
const VERSION: u8 = 1;
const ID: usize = 16;
const SEAL: usize = 8;

/// An id that orders a list.
pub(crate) trait RowId: Copy {
    fn bytes(&self) -> &[u8; ID];
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

macro_rules! row_ids {
    ($($id:ident),*) => {$(
        impl RowId for $id {
            fn bytes(&self) -> &[u8; ID] {
                self.as_bytes()
            }

            fn from_bytes(bytes: &[u8]) -> Option<Self> {
                Self::from_slice(bytes).ok()
            }
        }
    )*};
}

row_ids!(AttemptId, DeliveryId, EventId, SubscriptionId);

/// A list as one request asks for it: reads its cursor and writes the next one.
#[derive(Debug)]
pub(crate) struct Listing {
    digest: Sha256,
}

/// The answer to a list.
#[derive(Debug, Serialize)]
pub(crate) struct ListBody<T> {
    pub(crate) data: Vec<T>,
    pub(crate) next_cursor: Option<String>,
}

impl Listing {
    /// `route` tells lists apart; a list below an id has the id in it.
    pub(crate) fn new(route: &str, scope: &Scope, params: &Params) -> Self {
        let mut digest = Sha256::new();
        let mut part = |text: &str| {
            digest.update((text.len() as u64).to_be_bytes());
            digest.update(text);
        };
        part(route);
        part(match scope {
            Scope::One(tenant) => tenant.as_str(),
            Scope::All => "*",
        });
        for (name, value) in params.filters() {
            part(name);
            part(value);
        }
        Self { digest }
    }

    /// The page that the request asks for.
    pub(crate) fn request<I: RowId>(&self, params: &Params) -> Result<PageRequest<I>, Problem> {
        let limit = params.limit()?;
        let before = params.text("cursor").map(|cursor| self.open(cursor)).transpose()?;
        Ok(PageRequest { before, limit })
    }

    /// The answer, each row shown by `show`.
    pub(crate) fn body<'a, T, I: RowId, J>(
        &self,
        rows: &'a [T],
        next: Option<I>,
        show: impl FnMut(&'a T) -> J,
    ) -> ListBody<J> {
        ListBody { data: rows.iter().map(show).collect(), next_cursor: next.map(|id| self.cursor(&id)) }
    }

    fn cursor<I: RowId>(&self, id: &I) -> String {
        let mut bytes = [0; 1 + ID + SEAL];
        bytes[0] = VERSION;
        bytes[1..=ID].copy_from_slice(id.bytes());
        bytes[1 + ID..].copy_from_slice(&self.seal(id.bytes()));
        BASE64.encode(bytes)
    }

    fn open<I: RowId>(&self, cursor: &str) -> Result<I, Problem> {
        let bytes = BASE64.decode(cursor).unwrap_or_default();
        match bytes.split_first() {
            Some((&VERSION, rest)) if rest.len() == ID + SEAL && self.seal(&rest[..ID]) == rest[ID..] => {
                I::from_bytes(&rest[..ID]).ok_or_else(refused)
            }
            _ => Err(refused()),
        }
    }

    fn seal(&self, id: &[u8]) -> [u8; SEAL] {
        let digest = self.digest.clone().chain_update([VERSION]).chain_update(id).finalize();
        let mut seal = [0; SEAL];
        seal.copy_from_slice(&digest[..SEAL]);
        seal
    }
}

fn refused() -> Problem {
    Problem::new(
        ProblemCode::InvalidCursor,
        "`cursor` is not the `next_cursor` of this list with these filters; start again without it",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(route: &str, tenant: &str, query: &str) -> Listing {
        let scope = Scope::One(tenant.parse().unwrap());
        Listing::new(route, &scope, &Params::parse(Some(query)))
    }

    #[test]
    fn a_cursor_opens_only_the_list_it_came_from() {
        let id = EventId::new();
        let list = listing("events", "a", "event_type=x&since=2026-01-01T00:00:00Z");
        let cursor = list.cursor(&id);
        assert_eq!(list.open::<EventId>(&cursor), Ok(id));
        let same = listing("events", "a", "limit=3&since=2026-01-01T00:00:00Z&cursor=c&event_type=x");
        assert_eq!(same.open::<EventId>(&cursor), Ok(id));
        for other in [
            listing("deliveries", "a", "event_type=x&since=2026-01-01T00:00:00Z"),
            listing("events", "b", "event_type=x&since=2026-01-01T00:00:00Z"),
            listing("events", "a", "event_type=x"),
            listing("events", "a", "event_type=y&since=2026-01-01T00:00:00Z"),
        ] {
            let problem = other.open::<EventId>(&cursor).unwrap_err();
            assert_eq!(problem.code(), ProblemCode::InvalidCursor);
        }
    }

    #[test]
    fn a_forged_cursor_is_refused() {
        let list = listing("events", "a", "");
        let cursor = list.cursor(&EventId::new());
        assert_eq!(cursor.len(), 34);
        for position in 0..cursor.len() {
            let mut forged = cursor.clone().into_bytes();
            forged[position] = if forged[position] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).unwrap();
            assert!(list.open::<EventId>(&forged).is_err(), "{forged}");
        }
        for forged in ["", "!", "AAAA", &cursor[1..], &format!("{cursor}A"), &EventId::new().to_string()] {
            assert!(list.open::<EventId>(forged).is_err(), "{forged}");
        }
    }
}
