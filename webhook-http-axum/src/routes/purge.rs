//! Deleting what is finished of one tenant, before the retention does.
//!
//! The answer comes when all is deleted. A client that does not wait for it, or is told 503, asks again: what was
//! deleted until then is gone.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};

use crate::access::Caller;
use crate::body;
use crate::json::{PurgedJson, json};
use crate::params::Params;
use crate::problem::Problem;
use crate::state::Shared;

pub(super) async fn purge(
    State(app): State<Shared>,
    caller: Caller,
    params: Params,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    params.only(&[])?;
    let tenant = caller.tenant(&params)?;
    let mut fields = body::optional_fields(&headers, body).await?;
    // Never a default: without it, a request with a misspelt field would delete everything.
    fields.demand("older_than");
    let older_than = fields.duration("older_than").unwrap_or_default();
    fields.finish()?;
    let deleted = app.webhooks.purge(&tenant, older_than).await?;
    Ok(json(StatusCode::OK, &PurgedJson { deleted }))
}
