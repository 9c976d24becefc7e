//! Who calls, and for which tenant.
//!
//! Every handler asks here and nowhere else, so that a route that forgot its tenant does not compile: a
//! [`Tenant`] or a [`Scope`] is what the engine and the history take. The caller of a request is, in this order:
//! who the application says by putting a [`Caller`] into its extensions; with keys, the holder of the one that
//! it carries, and without a good one 401; an admin.

use axum::extract::FromRequestParts;
use http::request::Parts;
use webhook_core::model::Tenant;

use crate::params::Params;
use crate::problem::{Problem, ProblemCode};
use crate::state::Shared;

/// Who made a request. An application that nests the router and authenticates requests itself inserts one
/// into the request's extensions, in a layer around the router; without one, the keys of
/// [`HttpOptions::keys`](crate::HttpOptions::keys) decide, and without keys the caller is an admin.
///
/// ```
/// use axum::extract::Request;
/// use axum::middleware::{Next, from_fn};
/// use webhook_http_axum::Caller;
///
/// async fn bind(mut request: Request, next: Next) -> axum::response::Response {
///     let tenant = "acme".parse().expect("a tenant"); // from the session, for example
///     request.extensions_mut().insert(Caller::of(tenant));
///     next.run(request).await
/// }
///
/// let layer = from_fn(bind);
/// # let _: axum::Router = axum::Router::new().layer(layer);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    bound: Option<Tenant>,
}

impl Caller {
    /// May act for every tenant, and for `default` when the request names none.
    #[must_use]
    pub const fn admin() -> Self {
        Self { bound: None }
    }

    /// Acts for this tenant alone: naming another is 403, and what belongs to another is 404.
    #[must_use]
    pub const fn of(tenant: Tenant) -> Self {
        Self { bound: Some(tenant) }
    }

    /// The one tenant that a request is for.
    pub(crate) fn tenant(&self, params: &Params) -> Result<Tenant, Problem> {
        self.resolve(params.tenant()?)
    }

    /// The same for a request whose body may name a tenant too.
    pub(crate) fn tenant_with_body(&self, params: &Params, body: Option<Tenant>) -> Result<Tenant, Problem> {
        match (params.tenant()?, body) {
            (Some(query), Some(body)) if query != body => {
                Err(Problem::field("tenant", "the query names another tenant than the body"))
            }
            (query, body) => self.resolve(body.or(query)),
        }
    }

    /// The tenants that a list is about: `?tenant=*` asks for all.
    pub(crate) fn scope(&self, params: &Params) -> Result<Scope, Problem> {
        if params.text("tenant") != Some("*") {
            return self.tenant(params).map(Scope::One);
        }
        match self.bound {
            None => Ok(Scope::All),
            Some(_) => Err(not_yours()),
        }
    }

    /// Whether it may act for every tenant.
    pub(crate) fn is_admin(&self) -> bool {
        self.bound.is_none()
    }

    fn resolve(&self, named: Option<Tenant>) -> Result<Tenant, Problem> {
        match (&self.bound, named) {
            (Some(bound), Some(named)) if *bound != named => Err(not_yours()),
            (Some(bound), _) => Ok(bound.clone()),
            (None, named) => Ok(named.unwrap_or_default()),
        }
    }
}

fn not_yours() -> Problem {
    Problem::new(ProblemCode::Forbidden, "the caller is bound to another tenant")
}

impl FromRequestParts<Shared> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Shared) -> Result<Self, Problem> {
        match (parts.extensions.get::<Self>(), &app.options.keys) {
            (Some(caller), _) => Ok(caller.clone()),
            (None, Some(keys)) => keys.caller(&parts.headers),
            (None, None) => Ok(Self::admin()),
        }
    }
}

/// The tenants that a list is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// One.
    One(Tenant),
    /// All of them.
    All,
}

impl Scope {
    /// As filters take it.
    pub(crate) fn tenant(&self) -> Option<Tenant> {
        match self {
            Self::One(tenant) => Some(tenant.clone()),
            Self::All => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        Params::parse(Some(query))
    }

    fn tenant(name: &str) -> Tenant {
        name.parse().unwrap()
    }

    #[test]
    fn a_bound_caller_names_its_own_tenant_or_none() {
        let caller = Caller::of(tenant("acme"));
        assert_eq!(caller.tenant(&params("")), Ok(tenant("acme")));
        assert_eq!(caller.tenant(&params("tenant=acme")), Ok(tenant("acme")));
        for query in ["tenant=other", "tenant=_operations"] {
            assert_eq!(caller.tenant(&params(query)).unwrap_err().code(), ProblemCode::Forbidden, "{query}");
        }
        assert_eq!(caller.scope(&params("tenant=*")).unwrap_err().code(), ProblemCode::Forbidden);
        let body = caller.tenant_with_body(&params(""), Some(tenant("other")));
        assert_eq!(body.unwrap_err().code(), ProblemCode::Forbidden);
    }

    #[test]
    fn an_admin_acts_for_default_unless_a_tenant_is_named() {
        let admin = Caller::admin();
        assert_eq!(admin.tenant(&params("")), Ok(Tenant::default()));
        assert_eq!(admin.tenant(&params("tenant=_operations")), Ok(tenant(Tenant::OPERATIONS)));
        assert_eq!(admin.scope(&params("tenant=*")), Ok(Scope::All));
        assert_eq!(admin.tenant(&params("tenant=*")).unwrap_err().code(), ProblemCode::InvalidParameter);
        let two = admin.tenant_with_body(&params("tenant=a"), Some(tenant("b")));
        assert_eq!(two.unwrap_err().code(), ProblemCode::ValidationFailed);
        assert_eq!(admin.tenant_with_body(&params("tenant=a"), Some(tenant("a"))), Ok(tenant("a")));
        assert_eq!(admin.tenant_with_body(&params(""), Some(tenant("b"))), Ok(tenant("b")));
    }
}
