//! Lists that are there twice: of a whole tenant, and below `/subscriptions/{id}` of one subscription.

use axum::extract::FromRequestParts;
use http::request::Parts;
use webhook_core::id::SubscriptionId;

use crate::access::{Caller, Scope};
use crate::cursor::Listing;
use crate::params::Params;
use crate::problem::Problem;
use crate::state::Shared;

/// What every page takes.
const PAGE: [&str; 2] = ["limit", "cursor"];

/// A request for a page, its query not read yet.
#[derive(Debug)]
pub(super) struct Listed {
    app: Shared,
    caller: Caller,
    params: Params,
}

/// The list that it asks for.
#[derive(Debug)]
pub(super) struct List {
    pub(super) app: Shared,
    pub(super) params: Params,
    pub(super) scope: Scope,
    pub(super) listing: Listing,
    pub(super) subscription_id: Option<SubscriptionId>,
}

impl FromRequestParts<Shared> for Listed {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, app).await?;
        Ok(Self { app: app.clone(), caller, params: Params::parse(parts.uri.query()) })
    }
}

impl Listed {
    /// Of the tenant, or of the subscription that the query names.
    pub(super) fn all(self, name: &str, filters: &[&str]) -> Result<List, Problem> {
        self.params.only(&[&["subscription_id"][..], filters, &PAGE].concat())?;
        let scope = self.caller.scope(&self.params)?;
        let subscription_id = self.params.parsed("subscription_id")?;
        Ok(self.list(scope, name, subscription_id))
    }

    /// Of the subscription that the path names, which must be there.
    pub(super) async fn of_subscription(
        self,
        id: SubscriptionId,
        name: &str,
        filters: &[&str],
    ) -> Result<List, Problem> {
        self.params.only(&[filters, &PAGE].concat())?;
        let scope = self.caller.scope(&self.params)?;
        self.app.subscription(&scope, id).await?;
        Ok(self.list(scope, &format!("subscriptions/{id}/{name}"), Some(id)))
    }

    fn list(self, scope: Scope, route: &str, subscription_id: Option<SubscriptionId>) -> List {
        let listing = Listing::new(route, &scope, &self.params);
        List { app: self.app, params: self.params, scope, listing, subscription_id }
    }
}
