//! `webhook-server healthcheck` against servers that are there, away, silent and unwell.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::process::{Process, binary};

/// Exit code and the one line.
fn checked(words: &[&str], listen: &str) -> (i32, String) {
    let mut process =
        Process::spawn(binary(&[&["healthcheck"], words].concat()).env("WEBHOOK_LISTEN", listen));
    let code = process.ended().code().expect("an exit code");
    let (stdout, stderr) = (process.stdout(), process.stderr());
    let (lines, others) = if code == 0 { (stdout, stderr) } else { (stderr, stdout) };
    assert_eq!((lines.len(), others.len()), (1, 0), "{lines:#?} {others:#?}");
    (code, lines[0].clone())
}

#[test]
fn a_running_server_is_healthy_and_one_that_stopped_is_not() {
    let mut server = Process::start(&["--listen=127.0.0.1:0", "--database-url=memory:", "--log=warn"]);
    let address = server.url().trim_start_matches("http://").to_owned();
    let everywhere = address.replace("127.0.0.1", "0.0.0.0");
    for (words, listen, path) in [
        (&[][..], address.as_str(), "/health"),
        (&["--ready"], &address, "/ready"),
        (&[], &everywhere, "/health"),
        (&["--listen", &address], "127.0.0.1:1", "/health"),
    ] {
        let (code, line) = checked(words, listen);
        assert_eq!(code, 0, "{line}");
        assert!(line.contains(&format!("http://{address}{path} answered 200")), "{line}");
    }
    server.signal(Signal::TERM);
    assert!(server.ended().success());
    let (code, line) = checked(&[], &address);
    assert_eq!(code, 1);
    assert!(line.contains(&address) && line.contains("nobody listens there"), "{line}");
}

/// Answers one connection with this, and holds it until the client has left.
fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    });
    address
}

#[test]
fn another_answer_than_200_is_told() {
    for (answer, told) in [
        ("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", "answered 503"),
        ("SSH-2.0-OpenSSH_9.2\r\n", "the answer is not HTTP"),
    ] {
        let (code, line) = checked(&["--ready"], &answering(answer));
        assert_eq!(code, 1, "{line}");
        assert!(line.contains(told), "{line}");
    }
}

#[test]
fn a_server_that_does_not_answer_is_not_waited_for() {
    let address = answering("HTTP/1.1 2");
    let started = Instant::now();
    let (code, line) = checked(&["--within=300ms"], &address);
    assert_eq!(code, 1);
    assert!(line.contains("no answer within 300ms"), "{line}");
    assert!(started.elapsed() >= Duration::from_millis(300));
}

#[test]
fn an_address_that_cannot_be_asked_is_a_mistake_of_the_caller() {
    let mut process = Process::start(&["healthcheck", "--listen=127.0.0.1:0"]);
    assert_eq!(process.ended().code(), Some(2));
    assert!(process.stderr().concat().contains("--listen \"127.0.0.1:0\""), "{:#?}", process.stderr());
}
