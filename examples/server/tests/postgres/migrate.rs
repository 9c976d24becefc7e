//! The schema: brought up to date by a command or at start, refused when behind, and a database that is not there.

use rustix::process::Signal;

use crate::support::process::{Process, binary};
use crate::{database, node};

/// The one line of a process that cannot start.
fn refused(mut process: Process) -> String {
    let status = process.ended();
    let lines = process.stderr();
    assert_eq!((status.code(), lines.len()), (Some(1), 1), "{lines:#?}");
    assert_eq!(process.stdout(), Vec::<String>::new());
    lines[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_behind_is_refused_until_migrate_has_run() {
    let Some(url) = database("migrate").await else { return };
    let line = refused(node(&url, "all", &["--migrate=false"]));
    assert!(line.contains("version 0") && line.contains("migrate"), "{line}");

    for _ in 0..2 {
        let mut migrate = Process::spawn(binary(&["migrate", "--log=warn"]).env("DATABASE_URL", &url));
        assert_eq!(migrate.ended().code(), Some(0), "{:#?}", migrate.stderr());
        let lines = migrate.stdout();
        assert!(lines.len() == 1 && lines[0].contains("up to date"), "{lines:#?}");
    }
    let mut server = node(&url, "all", &["--migrate=false"]);
    server.url();
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(0), "{:#?}", server.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_at_once_migrate_once() {
    let Some(url) = database("starting at once").await else { return };
    let mut nodes: Vec<_> = ["all", "api", "worker", "all"].map(|role| node(&url, role, &[])).into();
    for node in &mut nodes {
        node.url();
    }
    for node in &mut nodes {
        node.signal(Signal::TERM);
        assert_eq!(node.ended().code(), Some(0), "{:#?}", node.stderr());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_or_refuses_is_one_line_without_the_password() {
    // A port that was free a moment ago and that nobody is told of.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://webhooks:hunter2@127.0.0.1:{port}/shop?password=hunter2");
    for command in [["--listen=127.0.0.1:0", "--log=warn"], ["migrate", "--log=warn"]] {
        let line = refused(Process::spawn(binary(&command).env("DATABASE_URL", &url)));
        assert!(line.contains(&format!("postgres://webhooks@127.0.0.1:{port}/shop")), "{line}");
        assert!(line.contains("cannot be reached"), "{line}");
        assert!(!line.contains("hunter2"), "{line}");
    }

    let Some(url) = database("missing").await else { return };
    let line = refused(node(&format!("{url}_nowhere"), "all", &[]));
    assert!(line.contains("no such database"), "{line}");
}
