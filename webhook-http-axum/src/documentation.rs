//! `/openapi.json`, and with the feature `docs` a page at `/docs` to read it and to try requests.
//!
//! Both are open without a key: they say nothing of this server that its source does not. The page is Swagger UI
//! out of the binary and works without internet; its policy lets it load and ask nothing but this server.

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;

use crate::openapi::openapi;

/// `GET /openapi.json`, which is [`openapi`] for a router that is nested under `base`, and with the feature
/// `docs` `GET /docs`, where people read it and try requests. Merge it into the application's root.
///
/// ```
/// use axum::Router;
///
/// let app: Router = Router::new().merge(webhook_http_axum::documentation("/api/v1"));
/// ```
pub fn documentation(base: &str) -> Router {
    let document = Bytes::from(openapi(base).to_string());
    let answer = move || {
        let document = document.clone();
        async move { of_type("application/json", document) }
    };
    let router =
        Router::new().route("/openapi.json", get(answer.clone())).route("/openapi.json/", get(answer));
    #[cfg(feature = "docs")]
    let router = page::add(router);
    // It holds for the routes that are there by now.
    router.method_not_allowed_fallback(crate::routes::other_method)
}

fn of_type(content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = body.into().into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(feature = "docs")]
mod page {
    use std::sync::Arc;

    use axum::extract::Path;
    use axum::extract::rejection::PathRejection;
    use axum::response::IntoResponse as _;
    use http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
    use utoipa_swagger_ui::{Config, serve};

    use super::{HeaderValue, Response, Router, get, of_type};
    use crate::problem::{Problem, ProblemCode};

    /// Swagger UI writes styles into the page; scripts are files of this server alone.
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
        img-src 'self' data:; connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";
    const START: &str = "start.js";

    pub(super) fn add(router: Router) -> Router {
        // Links are relative, as the application may itself live below a path.
        router
            .route("/docs", get(async || page("docs/", "")))
            .route("/docs/", get(async || page("", "../")))
            .route("/docs/{file}", get(file))
    }

    fn page(files: &str, root: &str) -> Response {
        let html = format!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Webhook delivery: API</title>\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <link rel=\"icon\" href=\"{files}favicon-32x32.png\">\
             <link rel=\"stylesheet\" href=\"{files}swagger-ui.css\"></head>\
             <body><div id=\"api\" data-document=\"{root}openapi.json\">\
             <noscript>This page needs scripts; the document is at \
             <a href=\"{root}openapi.json\">openapi.json</a>.</noscript></div>\
             <script src=\"{files}swagger-ui-bundle.js\"></script>\
             <script src=\"{files}{START}\"></script></body></html>"
        );
        safe(of_type("text/html; charset=utf-8", html))
    }

    async fn file(name: Result<Path<String>, PathRejection>) -> Response {
        // A name that is no text is no file's.
        let Path(name) = name.unwrap_or_else(|_| Path(String::new()));
        if name == START {
            return safe(of_type("text/javascript", SCRIPT));
        }
        let wanted = matches!(&*name, "swagger-ui.css" | "swagger-ui-bundle.js" | "favicon-32x32.png");
        let found = wanted.then(|| serve(&name, Arc::new(Config::from("")))).and_then(Result::ok).flatten();
        let Some(found) = found else {
            return Problem::new(ProblemCode::NotFound, "there is no such file").into_response();
        };
        let content_type = match name.rsplit_once('.') {
            Some((_, "css")) => "text/css; charset=utf-8",
            Some((_, "js")) => "text/javascript; charset=utf-8",
            _ => "image/png",
        };
        safe(of_type(content_type, found.bytes.into_owned()))
    }

    /// Without the validator that Swagger UI asks on the internet.
    const SCRIPT: &str = "SwaggerUIBundle({\n  \
        url: document.getElementById('api').dataset.document,\n  \
        dom_id: '#api',\n  deepLinking: true,\n  validatorUrl: null,\n  tryItOutEnabled: true,\n});\n";

    fn safe(mut response: Response) -> Response {
        let headers = response.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        response
    }
}
