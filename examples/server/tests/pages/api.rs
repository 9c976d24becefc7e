//! `docs/api.md`: each command is run as it is written, and every route has one.

use std::collections::BTreeSet;

use webhook_http_axum::ROUTES;
use webhook_store_sqlite::sqlx::{self, Connection as _, SqliteConnection};

use super::answers::Ids;
use super::page::{Step, steps};
use super::shell::Shell;

const PAGE: &str = include_str!("../../../../docs/api.md");

#[tokio::test]
async fn every_command_of_the_page_answers_as_shown() {
    let mut shell = Shell::start(&["8080", "8081", "9000", "9001"]);
    let mut ids = Ids::default();
    let mut wrong = Vec::new();
    for step in steps(PAGE) {
        match step {
            Step::Command { command, shown } => {
                let printed = shell.run(&ids.here(&command));
                if let Err(why) = ids.compare(&shown, &printed) {
                    wrong.push(format!("`{command}`: {why}; it printed:\n{printed}"));
                }
            }
            // An application's own program runs it.
            Step::Sql(sql) => {
                let file = shell.directory.path().join("webhooks.db");
                let mut conn =
                    SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
                sqlx::raw_sql(&sql).execute(&mut conn).await.expect("the page's SQL");
                conn.close().await.unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn every_route_has_a_curl() {
    let shown: BTreeSet<_> = steps(PAGE)
        .iter()
        .flat_map(|step| match step {
            Step::Command { command, .. } => calls(command),
            Step::Sql(_) => Vec::new(),
        })
        .collect();
    let missing: Vec<_> = ROUTES
        .iter()
        .map(|route| (route.method.to_owned(), route.path.to_owned()))
        .filter(|route| !shown.contains(route))
        .collect();
    assert!(missing.is_empty(), "docs/api.md has no curl for {missing:?}");
    for path in ["/health", "/ready", "/openapi.json", "/metrics"] {
        assert!(shown.contains(&("GET".to_owned(), path.to_owned())), "{path}");
    }
}

/// Method and path of every curl in a command, with `{id}` where an id or a variable stands.
fn calls(command: &str) -> Vec<(String, String)> {
    let mut calls = Vec::new();
    for call in command.split("curl ").skip(1) {
        let words: Vec<&str> = call.split_whitespace().collect();
        let method = match words.iter().position(|word| *word == "-X") {
            Some(at) => words[at + 1],
            None if words.iter().any(|word| matches!(*word, "--json" | "-d" | "--data-binary")) => "POST",
            None => "GET",
        };
        let bases = ["$API", "http://localhost:8080", "http://localhost:8081/api/v1"];
        let path = words.iter().map(|word| word.trim_matches('"')).find_map(|word| {
            let below = bases.iter().find_map(|base| word.strip_prefix(base))?;
            Some(below.split('?').next().unwrap_or(below))
        });
        let Some(path) = path else { panic!("whom does it ask? {command}") };
        let is_id = |part: &str| part.starts_with('$') || part.len() == 36;
        let part = |part| if is_id(part) { "{id}" } else { part };
        let path = path.split('/').map(part).collect::<Vec<_>>().join("/");
        calls.push((method.to_owned(), path));
    }
    calls
}

#[test]
fn a_curls_method_and_path_are_read() {
    let call = |method: &str, path: &str| (method.to_owned(), path.to_owned());
    assert_eq!(calls("curl -s $API/events --json '{}'"), [call("POST", "/events")]);
    assert_eq!(
        calls("until curl -s \"$API/events/$EVENT?limit=1\" | grep -q a; do curl -s -X PUT $API/x; done"),
        [call("GET", "/events/{id}"), call("PUT", "/x;")]
    );
}
