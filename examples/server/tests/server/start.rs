//! What keeps a server from starting: exit code 1 and one clear line; and what it says when it starts.

use std::net::TcpListener;
use std::path::Path;

use rustix::process::Signal;

use crate::support::process::{Process, binary};

fn database(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

/// The one line of a server that cannot start.
fn refused(arguments: &[&str]) -> String {
    let mut process = Process::start(arguments);
    let status = process.ended();
    let lines = process.stderr();
    assert_eq!((status.code(), lines.len()), (Some(1), 1), "{lines:#?}");
    assert_eq!(process.stdout(), Vec::<String>::new());
    lines[0].clone()
}

#[test]
fn a_port_in_use_is_named_and_no_database_is_left_behind() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let url = database(&directory.path().join("never.db"));
    let line = refused(&["--listen", &address, "--database-url", &url]);
    assert!(line.contains(&address) && line.contains("--listen"), "{line}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("letters.db");
    let text = "Dear Sir or Madam, this is not a database. ".repeat(100);
    std::fs::write(&path, &text).unwrap();
    let line = refused(&["--listen", "127.0.0.1:0", "--database-url", &database(&path)]);
    assert!(line.contains("letters.db") && line.contains("database"), "{line}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_missing_directory_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nowhere").join("webhooks.db");
    let line = refused(&["--listen", "127.0.0.1:0", "--database-url", &database(&path)]);
    assert!(line.contains("nowhere") && line.contains("directory"), "{line}");
}

#[test]
fn a_second_server_on_the_same_file_is_refused_and_the_first_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let url = database(&directory.path().join("webhooks.db"));
    let mut first = Process::start(&["--listen", "127.0.0.1:0", "--database-url", &url]);
    first.url();
    let line = refused(&["--listen", "127.0.0.1:0", "--database-url", &url]);
    assert!(line.contains("another process"), "{line}");
    first.signal(Signal::TERM);
    assert_eq!(first.ended().code(), Some(0), "{:#?}", first.stderr());

    let mut third = Process::start(&["--listen", "127.0.0.1:0", "--database-url", &url]);
    third.url();
}

#[test]
fn the_first_line_says_where_it_listens_whatever_the_log_filter() {
    let version = env!("CARGO_PKG_VERSION");
    let mut pretty =
        Process::start(&["--listen", "127.0.0.1:0", "--database-url", "memory:", "--log", "off"]);
    let line = pretty.line_with("listening on http://127.0.0.1:");
    assert!(line.contains(version) && line.contains("memory:") && !line.contains(":0 "), "{line}");

    let mut json = Process::spawn(
        binary(&["serve", "--database-url=memory:", "--log-format=json"])
            .env("WEBHOOK_LISTEN", "localhost:0"),
    );
    let line: serde_json::Value = serde_json::from_str(&json.line_with("listening")).unwrap();
    assert_eq!(line["version"], version);
    assert!(line["url"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{line}");
    json.signal(Signal::INT);
    assert_eq!(json.ended().code(), Some(0));
    for line in json.stderr() {
        let parsed: serde_json::Value = serde_json::from_str(&line).expect("a log line in JSON");
        assert!(parsed["level"].is_string() && parsed["message"].is_string(), "{line}");
    }
}

#[test]
fn a_second_ctrl_c_ends_it_at_once() {
    let mut server = Process::start(&["--listen", "127.0.0.1:0", "--database-url", "memory:"]);
    let address = server.url().trim_start_matches("http://").to_owned();
    // A request whose body never comes keeps a clean stop waiting.
    let mut client = std::net::TcpStream::connect(address).unwrap();
    let head = "POST /api/v1/events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                content-length: 100\r\nexpect: 100-continue\r\n\r\n";
    std::io::Write::write_all(&mut client, head.as_bytes()).unwrap();
    let mut answer = [0; 12];
    std::io::Read::read_exact(&mut client, &mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100", "the server waits for the body");

    server.signal(Signal::INT);
    // The line comes before it waits.
    let end = std::time::Instant::now() + crate::support::DEADLINE;
    while !server.stderr().iter().any(|line| line.contains("stopping")) {
        assert!(std::time::Instant::now() < end, "{:#?}", server.stderr());
        std::thread::yield_now();
    }
    server.signal(Signal::INT);
    assert_eq!(server.ended().code(), Some(130));
}

/// A database that takes connections and never answers would otherwise hold up the stop as long as the start.
#[test]
fn a_signal_during_the_start_ends_it_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("postgres://hooks@{}/hooks", silent.local_addr().unwrap());
        let mut server = Process::start(&["--listen", "127.0.0.1:0", "--database-url", &url]);
        // It has got as far as the database.
        let (_connection, _) = silent.accept().unwrap();
        let start = std::time::Instant::now();
        server.signal(signal);
        assert_eq!(server.ended().code(), Some(0), "{:#?}", server.stderr());
        assert!(start.elapsed() < std::time::Duration::from_secs(2), "{:?}", start.elapsed());
        assert_eq!(server.stdout(), Vec::<String>::new(), "it never listened");
    }
}
