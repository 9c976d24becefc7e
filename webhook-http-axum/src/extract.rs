//! What handlers of one thing are given: the thing's id within the caller's tenant, and a body that asks for nothing or
//! only for options.
//!
//! The order in which a request is refused is decided here for all of them: for its caller, then for an id that can be
//! none, then for its query, then for its body.

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use http::request::Parts;
use webhook_core::model::Tenant;

use crate::access::Caller;
use crate::body;
use crate::fields::Fields;
use crate::params::{Id, Named, Params};
use crate::problem::Problem;
use crate::state::Shared;

/// The one thing that a request is about. Its query names a tenant or nothing.
#[derive(Debug)]
pub(crate) struct One<I> {
    pub(crate) app: Shared,
    pub(crate) tenant: Tenant,
    pub(crate) id: I,
}

impl<I: Named + Send> FromRequestParts<Shared> for One<I> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, app).await?;
        let Id(id) = Id::<I>::from_request_parts(parts, app).await?;
        let params = Params::parse(parts.uri.query());
        params.only(&[])?;
        let tenant = caller.tenant(&params)?;
        Ok(Self { app: app.clone(), tenant, id })
    }
}

/// The fields of a body that may be left out.
#[derive(Debug)]
pub(crate) struct Options(pub(crate) Fields);

impl FromRequest<Shared> for Options {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &Shared) -> Result<Self, Problem> {
        let (parts, body): (Parts, Body) = request.into_parts();
        body::optional_fields(&parts.headers, body).await.map(Self)
    }
}

/// No body, or `{}`.
#[derive(Debug)]
pub(crate) struct NoOptions;

impl FromRequest<Shared> for NoOptions {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, Problem> {
        let Options(fields) = Options::from_request(request, app).await?;
        fields.finish().map(|()| Self)
    }
}
