//! Events that applications inserted in transactions of their own and that could not be published.
//!
//! Nothing of such a row was checked before it was committed, its tenant included. One whose tenant cannot be
//! a tenant is no tenant's; so both routes take `?tenant=*`, which is how an admin sees it and gets rid of it.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use webhook_core::id::EventId;

use crate::access::Caller;
use crate::cursor::Listing;
use crate::json::{RejectedJson, json};
use crate::params::{Id, Params};
use crate::problem::Problem;
use crate::state::Shared;

pub(super) async fn list(
    State(app): State<Shared>,
    caller: Caller,
    params: Params,
) -> Result<Response, Problem> {
    params.only(&["status", "limit", "cursor"])?;
    let scope = caller.scope(&params)?;
    // The only status that people see: other rows are on their way and gone in a moment.
    params.names("status", &["rejected"])?;
    let listing = Listing::new("inbox", &scope, &params);
    let page = app.webhooks.rejected(scope.tenant().as_ref(), listing.request(&params)?).await?;
    Ok(json(StatusCode::OK, &listing.body(&page.items, page.next, RejectedJson::of)))
}

pub(super) async fn delete(
    State(app): State<Shared>,
    caller: Caller,
    params: Params,
    Id(id): Id<EventId>,
) -> Result<Response, Problem> {
    params.only(&[])?;
    let scope = caller.scope(&params)?;
    if app.webhooks.delete_rejected(scope.tenant().as_ref(), id).await? {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(Problem::not_found("rejected event"))
    }
}
