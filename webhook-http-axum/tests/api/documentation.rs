use axum::Router;
use http::Method;
use webhook_http_axum::{documentation, openapi};

use super::harness::{Answer, request, send};

async fn get(path: &str) -> Answer {
    let app: Router = Router::new().merge(documentation("/api/v1"));
    send(app, request(Method::GET, path, &[], "")).await
}

#[tokio::test]
async fn the_document_is_served() {
    for path in ["/openapi.json", "/openapi.json/"] {
        let answer = get(path).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
        assert_eq!(answer.value(), openapi("/api/v1"));
    }
    let app: Router = Router::new().merge(documentation("/api/v1"));
    for path in ["/openapi.json", "/openapi.json/"] {
        let answer = send(app.clone(), request(Method::POST, path, &[], "")).await;
        assert_eq!(answer.problem(), (405, "method_not_allowed".into()), "{path}");
        assert_eq!(answer.header("allow"), "GET,HEAD", "{path}");
    }
}

#[cfg(feature = "docs")]
#[tokio::test]
async fn the_page_is_whole_without_internet() {
    for (page, base) in [("/docs", "/"), ("/docs/", "/docs/")] {
        let answer = get(page).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-type")),
            (200, "text/html; charset=utf-8")
        );
        assert!(answer.header("content-security-policy").contains("default-src 'none'"));
        let html = answer.text();
        assert!(!html.contains("//"), "nothing of it is elsewhere: {html}");
        let links = html.split(['"']).filter(|part| {
            ["css", "js", "png", "json"].iter().any(|ending| part.ends_with(&format!(".{ending}")))
        });
        let mut seen = 0;
        for link in links {
            let path = format!("{base}{link}").replace("/docs/../", "/");
            let answer = get(&path).await;
            assert!(answer.status == 200 && !answer.body.is_empty(), "{page}: {path}");
            assert!(
                path == "/openapi.json" || answer.header("x-content-type-options") == "nosniff",
                "{path}"
            );
            seen += 1;
        }
        assert!(seen >= 5, "{html}");
    }
    for path in ["/docs/nothing", "/docs/index.html", "/docs/..%2Fopenapi.json", "/docs/%FF"] {
        assert_eq!(get(path).await.problem(), (404, "not_found".into()), "{path}");
    }
    for path in ["/docs", "/docs/", "/docs/start.js"] {
        let app: Router = Router::new().merge(documentation("/api/v1"));
        let answer = send(app, request(Method::POST, path, &[], "")).await;
        assert_eq!(answer.problem(), (405, "method_not_allowed".into()), "{path}");
        assert_eq!(answer.header("allow"), "GET,HEAD", "{path}");
    }
}
