//! The README's tour, command by command, against what the README shows.
//!
//! Ids, moments and ports differ from run to run. Each distinct id is numbered in the order of its first
//! appearance, in the README and in what is printed alike, so that an id that is shown twice must be printed
//! twice.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's way to fail")]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const README: &str = include_str!("../../../README.md");
const MARK: &str = "--- end of ";
/// The whole tour takes about two seconds.
const DEADLINE: Duration = Duration::from_secs(60);

/// A command and what the README shows of its output.
struct Step {
    command: String,
    shown: String,
}

fn tour() -> Vec<Step> {
    let start = README.find("## A tour").expect("the README has a tour");
    let end = README.find("## Run it").expect("the tour ends");
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in README[start..end].lines() {
        if let Some(fence) = line.strip_prefix("```") {
            inside = fence == "console";
        } else if inside && let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { command: command.to_owned(), shown: String::new() });
        } else if inside && let Some(step) = steps.last_mut() {
            writeln!(step.shown, "{line}").unwrap();
        }
    }
    steps
}

/// What a reader would have done by `cargo build` and the line after it.
fn prepared(command: &str, ports: [u16; 2]) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_webhook-server"));
    match command {
        "cargo build" => "true".to_owned(),
        command if command.starts_with("export PATH=") => {
            format!("export PATH='{}':\"$PATH\"", binary.parent().unwrap().display())
        }
        // The server's own default is the port that the tour names, so it is told of the other one.
        command => command
            .replace("webhook-server --allow-cidr", "webhook-server --listen 127.0.0.1:8080 --allow-cidr")
            .replace("8080", &ports[0].to_string())
            .replace("9000", &ports[1].to_string()),
    }
}

fn free_ports() -> [u16; 2] {
    let listeners = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

fn run(steps: &[Step], ports: [u16; 2]) -> Vec<String> {
    // Job control, for `kill %1`, as in the reader's terminal.
    let mut script = "set -m\ntrap 'kill $(jobs -p) 2>/dev/null' EXIT TERM\n".to_owned();
    for (number, step) in steps.iter().enumerate() {
        writeln!(script, "{}\necho '{MARK}{number}'", prepared(&step.command, ports)).unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tour.sh");
    let output = directory.path().join("output");
    std::fs::write(&file, script).unwrap();
    let mut shell = Command::new("bash")
        .arg(&file)
        .env("TMPDIR", directory.path())
        .env_remove("DATABASE_URL")
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&output).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .expect("bash is installed");
    let start = Instant::now();
    while shell.try_wait().unwrap().is_none() {
        if start.elapsed() > DEADLINE {
            let id = rustix::process::Pid::from_child(&shell);
            rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
            shell.wait().unwrap();
            break;
        }
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let printed = std::fs::read_to_string(output).unwrap();
    let mut rest = printed.as_str();
    let mut outputs = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let mark = format!("{MARK}{number}\n");
        let Some(end) = rest.find(&mark) else { panic!("the tour stopped at `{}`", step.command) };
        outputs.push(rest[..end].to_owned());
        rest = &rest[end + mark.len()..];
    }
    outputs
}

/// Numbers the ids and blanks out what a clock says.
#[derive(Default)]
struct Normal {
    ids: HashMap<String, usize>,
}

impl Normal {
    fn of(&mut self, text: &str) -> String {
        let mut normal = String::new();
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            if let Some(id) = rest.get(..36).filter(|text| is_id(text)) {
                let known = self.ids.len() + 1;
                let number = *self.ids.entry(id.to_owned()).or_insert(known);
                write!(normal, "<id {number}>").unwrap();
                rest = &rest[36..];
            } else if let Some(length) = moment(rest) {
                normal.push_str("<moment>");
                rest = &rest[length..];
            } else {
                normal.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
        // A shown output may lack the last line break that `curl` does not print.
        normal.trim_end().to_owned()
    }
}

fn is_id(text: &str) -> bool {
    text.char_indices().all(|(at, c)| match at {
        8 | 13 | 18 | 23 => c == '-',
        _ => c.is_ascii_hexdigit(),
    })
}

/// The length of a moment that `text` begins with: RFC 3339, or the time of day with milliseconds.
fn moment(text: &str) -> Option<usize> {
    let shape = |pattern: &str| {
        text.len() >= pattern.len()
            && pattern
                .bytes()
                .zip(text.bytes())
                .all(|(p, t)| if p == b'0' { t.is_ascii_digit() } else { p == t })
    };
    if shape("0000-00-00T00:00:00") {
        return text.find('Z').map(|end| end + 1);
    }
    shape("00:00:00.000").then_some(12)
}

#[test]
fn the_tour_prints_what_the_readme_shows() {
    let steps = tour();
    assert!(steps.len() > 10, "the tour was found");
    let ports = free_ports();
    let outputs = run(&steps, ports);
    let (mut shown, mut printed) = (Normal::default(), Normal::default());
    for (step, output) in steps.iter().zip(outputs) {
        let output = output.replace(&ports[0].to_string(), "8080").replace(&ports[1].to_string(), "9000");
        assert_eq!(printed.of(&output), shown.of(&step.shown), "`{}` printed:\n{output}", step.command);
    }
}
