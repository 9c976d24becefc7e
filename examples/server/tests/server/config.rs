//! Where settings come from, as an operator meets it: real processes in a directory of their own, with a `.env` and a
//! TOML file in it.

use std::path::Path;

use crate::support::api::Api;
use crate::support::process::{Process, binary};

/// A working directory.
struct Place(tempfile::TempDir);

impl Place {
    fn new(dot_env: &str, toml: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        if !dot_env.is_empty() {
            std::fs::write(place.path(".env"), dot_env).unwrap();
        }
        if !toml.is_empty() {
            std::fs::write(place.path("webhook.toml"), toml).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// Starts the server's program here.
    fn start(&self, words: &[&str], variables: &[(&str, &str)]) -> Process {
        let mut command = binary(words);
        command.current_dir(self.0.path()).envs(variables.iter().copied());
        Process::spawn(&mut command)
    }

    /// What `check-config` prints here.
    fn in_force(&self, flags: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
        let mut process = self.start(&[&["check-config"], flags].concat(), variables);
        let status = process.ended();
        assert!(status.success(), "{:#?}", process.stderr());
        assert_eq!(process.stderr(), Vec::<String>::new());
        process.stdout()
    }

    /// The one line of a command that is refused here.
    fn refused(&self, words: &[&str], variables: &[(&str, &str)]) -> String {
        let mut process = self.start(words, variables);
        let status = process.ended();
        let lines = process.stderr();
        assert_eq!((status.code(), lines.len()), (Some(2), 1), "{words:?}: {lines:#?}");
        assert_eq!(process.stdout(), Vec::<String>::new());
        lines[0].clone()
    }
}

/// Value and source of a setting.
fn of<'a>(lines: &'a [String], key: &str) -> (&'a str, &'a str) {
    let begins = format!("{key} = ");
    let line = lines.iter().find_map(|line| line.trim_start_matches("# ").strip_prefix(&begins));
    let (value, source) = line.unwrap_or_else(|| panic!("{key}: {lines:#?}")).rsplit_once('#').unwrap();
    (value.trim(), source.trim())
}

const TOML: [&str; 3] = ["check-config", "--config", "webhook.toml"];

/// Each pair of neighbours, both ways: the stronger source wins, and the weaker holds where the stronger is silent.
#[test]
fn flags_win_over_the_environment_over_dot_env_over_the_file_over_the_default() {
    let dot_env =
        "WEBHOOK_TIMEOUT=3s\nWEBHOOK_LEASE=33s\nWEBHOOK_RETENTION=3h\nWEBHOOK_CONFIG=webhook.toml\n";
    let toml = "timeout = '4s'\nlease = '44s'\nretention = '4h'\nmax_age = '4d'\n";
    let place = Place::new(dot_env, toml);
    let variables = [("WEBHOOK_TIMEOUT", "2s"), ("WEBHOOK_LEASE", "22s")];
    let lines = place.in_force(&["--timeout=1s"], &variables);
    assert_eq!(of(&lines, "timeout"), ("\"1s\"", "flag --timeout"));
    assert_eq!(of(&lines, "lease"), ("\"22s\"", "environment, WEBHOOK_LEASE"));
    assert_eq!(of(&lines, "retention"), ("\"3h\"", ".env, WEBHOOK_RETENTION"));
    assert_eq!(of(&lines, "max_age"), ("\"4d\"", "file webhook.toml"));
    assert_eq!(of(&lines, "max_payload"), ("\"1MiB\"", "default"));
    assert_eq!(of(&lines, "config"), ("\"webhook.toml\"", ".env, WEBHOOK_CONFIG"));

    // Silent: not there, or empty.
    let lines = place.in_force(&[], &[("WEBHOOK_TIMEOUT", "")]);
    assert_eq!(of(&lines, "timeout"), ("\"3s\"", ".env, WEBHOOK_TIMEOUT"));
    let lines = place.in_force(&[], &[("WEBHOOK_TIMEOUT", "2s")]);
    assert_eq!(of(&lines, "timeout"), ("\"2s\"", "environment, WEBHOOK_TIMEOUT"));

    // Which file is read is a setting like any other.
    std::fs::write(place.path("other.toml"), "max_age = '5d'\n").unwrap();
    let lines = place.in_force(&["--config=other.toml"], &[("WEBHOOK_CONFIG", "nowhere.toml")]);
    assert_eq!(of(&lines, "max_age"), ("\"5d\"", "file other.toml"));
    let lines = place.in_force(&[], &[("WEBHOOK_CONFIG", "other.toml")]);
    assert_eq!(of(&lines, "max_age"), ("\"5d\"", "file other.toml"));
}

#[test]
fn a_list_is_taken_whole_from_the_strongest_source_that_has_it() {
    let place = Place::new("WEBHOOK_CONFIG=webhook.toml\n", "allow_cidr = ['10.4.0.0/16', 'fd00::/8']\n");
    let lines = place.in_force(&[], &[]);
    assert_eq!(of(&lines, "allow_cidr"), ("[\"10.4.0.0/16\", \"fd00::/8\"]", "file webhook.toml"));
    let variables = [("WEBHOOK_ALLOW_CIDRS", "10.2.0.0/16, 10.3.0.0/16")];
    let lines = place.in_force(&[], &variables);
    assert_eq!(
        of(&lines, "allow_cidr"),
        ("[\"10.2.0.0/16\", \"10.3.0.0/16\"]", "environment, WEBHOOK_ALLOW_CIDRS")
    );
    let lines = place.in_force(&["--allow-cidr=10.0.0.0/16", "--allow-cidr=10.1.0.0/16"], &variables);
    assert_eq!(of(&lines, "allow_cidr"), ("[\"10.0.0.0/16\", \"10.1.0.0/16\"]", "flag --allow-cidr"));
}

/// What `check-config` prints is what the server does.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_runs_by_dot_env_and_the_file() {
    let toml = "listen = '127.0.0.1:1'\ndatabase_url = 'sqlite://here.db'\napi_key = ['0123456789abcdef']\n\
                max_payload = '64B'\nconcurrency = 8\n";
    let place = Place::new("WEBHOOK_CONFIG=webhook.toml\nWEBHOOK_LISTEN=127.0.0.1:0\n", toml);
    let mut server = place.start(&["serve"], &[]);
    let api = Api::new(server.url());
    assert!(place.path("here.db").exists());
    assert_eq!(api.get("/api/v1/events").await.unwrap().status, 401, "there are keys");
    let headers = [("authorization", "Bearer 0123456789abcdef"), ("content-type", "application/json")];
    let large = format!(r#"{{"event_type":"a","payload":"{}"}}"#, "x".repeat(64));
    let answer = api.send(axum::http::Method::POST, "/api/v1/events", &headers, large).await.unwrap();
    assert_eq!(answer.status, 413);
}

#[test]
fn a_wrong_value_is_one_line_wherever_it_was_written() {
    // flag, variable, key, wrong value, part of what is accepted
    let table = [
        ("--listen", "WEBHOOK_LISTEN", "listen", "example.com:80", "127.0.0.1:8080"),
        ("--database-url", "DATABASE_URL", "database_url", "webhooks", "sqlite://PATH"),
        ("--redis-url", "REDIS_URL", "redis_url", "cache:6379", "--database-url postgres://"),
        ("--role", "WEBHOOK_ROLE", "role", "both", "all, api or worker"),
        ("--api-key-file", "WEBHOOK_API_KEY_FILE", "api_key_file", "/nowhere/keys", "No such file"),
        ("--allow-cidr", "WEBHOOK_ALLOW_CIDRS", "allow_cidr", "10.0.0.0/33", "10.0.0.0/8"),
        ("--https-only", "WEBHOOK_HTTPS_ONLY", "https_only", "perhaps", "true or false"),
        ("--concurrency", "WEBHOOK_CONCURRENCY", "concurrency", "0", "from 1 to"),
        ("--max-in-flight", "WEBHOOK_MAX_IN_FLIGHT", "max_in_flight", "x", "from 1 to"),
        ("--timeout", "WEBHOOK_TIMEOUT", "timeout", "15", "ms, s, m, h or d"),
        ("--retry", "WEBHOOK_RETRY", "retry", "sometimes", "schedule:"),
        ("--lease", "WEBHOOK_LEASE", "lease", "1ms", "from 100ms to"),
        ("--retention", "WEBHOOK_RETENTION", "retention", "soon", "0 to keep everything"),
        ("--max-payload", "WEBHOOK_MAX_PAYLOAD", "max_payload", "0", "from 1 byte to"),
        ("--max-age", "WEBHOOK_MAX_AGE", "max_age", "soon", "0 for never"),
        ("--disable-after", "WEBHOOK_DISABLE_AFTER", "disable_after", "5d", "expected 0 for never"),
        ("--migrate", "WEBHOOK_MIGRATE", "migrate", "no", "true or false"),
        ("--log-format", "WEBHOOK_LOG_FORMAT", "log_format", "xml", "pretty or json"),
        ("--log", "WEBHOOK_LOG", "log", "loud", "error, warn, info"),
        ("--shutdown-grace", "WEBHOOK_SHUTDOWN_GRACE", "shutdown_grace", "2h", "from 0"),
    ];
    for (flag, variable, key, value, accepted) in table {
        let all = |line: &str, origin: &str| {
            let parts = [flag, value, accepted, origin];
            assert!(parts.iter().all(|part| line.contains(part)), "{origin}: {line}");
        };
        let quoted = format!("{key} = \"{value}\"\n");
        let toml = Place::new("", &quoted);
        all(&toml.refused(&TOML, &[]), &format!("(from {key} in webhook.toml)"));
        all(
            &toml.refused(&["serve", "--config=webhook.toml"], &[]),
            &format!("(from {key} in webhook.toml)"),
        );
        let dot_env = Place::new(&format!("{variable}='{value}'\n"), "");
        all(&dot_env.refused(&["check-config"], &[]), &format!("(from {variable} in .env)"));
        let nothing = Place::new("", "");
        all(&nothing.refused(&["check-config"], &[(variable, value)]), &format!("(from {variable})"));
        all(&nothing.refused(&["check-config", flag, value], &[]), ": ");
    }
}

#[test]
fn a_key_that_is_no_setting_is_one_line_with_the_nearest() {
    for (toml, line, key, nearest) in [
        ("timeot = '3s'\n", 1, "timeot", "timeout"),
        ("\nmax-payload = '1MiB'\n", 2, "max-payload", "max_payload"),
        ("listen = '127.0.0.1:1'\napi_keys = ['0123456789abcdef']\n", 2, "api_keys", "api_key"),
        ("WEBHOOK_HTTPS_ONLY = true\n", 1, "WEBHOOK_HTTPS_ONLY", "https_only"),
        ("[retry]\nschedule = ['1s']\n", 1, "retry", "expected a string"),
    ] {
        let told = Place::new("", toml).refused(&TOML, &[]);
        assert!(told.contains(&format!("webhook.toml, line {line}: ")), "{told}");
        assert!(told.contains(key) && told.contains(nearest), "{told}");
        assert!(!told.contains("0123456789abcdef"), "{told}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_one_line() {
    let place = Place::new("", "timeout = 3s\napi_key = ['hunter2hunter2hunter2']\n");
    let line = place.refused(&TOML, &[]);
    assert!(line.contains("webhook.toml, line 1: this is no TOML") && !line.contains("hunter2"), "{line}");
    let line = place.refused(&["check-config", "--config=nowhere.toml"], &[]);
    assert!(line.contains("--config \"nowhere.toml\": the file cannot be read"), "{line}");
    let line = place.refused(&["migrate"], &[("WEBHOOK_CONFIG", "nowhere.toml")]);
    assert!(line.contains("\"nowhere.toml\" (from WEBHOOK_CONFIG)"), "{line}");
    let line = Place::new("WEBHOOK_LOG=info\nhunter2 is a password\n", "").refused(&["check-config"], &[]);
    assert!(line.contains(".env, line 2: expected NAME=VALUE") && !line.contains("hunter2"), "{line}");
}

#[test]
fn check_config_prints_everything_but_secrets() {
    let place = Place::new("", "api_key = ['hunter2hunter2hunter2', 'acme:hunter2hunter2hunter3']\n");
    let url = "postgres://app:hunter2@db/shop?sslmode=require&password=hunter2";
    let redis = "redis://:hunter2@cache:6379";
    let lines = place.in_force(
        &["--config=webhook.toml", "--role=worker", "--redis-url", redis],
        &[("DATABASE_URL", url), ("WEBHOOK_TIMOUT", "3s")],
    );
    assert!(!lines.concat().contains("hunter2"), "{lines:#?}");
    assert_eq!(of(&lines, "api_key"), ("[\"***\", \"***\"]", "file webhook.toml"));
    let shown = "\"postgres://app:***@db/shop?sslmode=require&password=***\"";
    assert_eq!(of(&lines, "database_url"), (shown, "environment, DATABASE_URL"));
    assert_eq!(of(&lines, "redis_url"), ("\"redis://:***@cache:6379\"", "flag --redis-url"));
    assert!(lines.contains(&"# allow_cidr is not set".to_owned()), "{lines:#?}");
    let note = "# WEBHOOK_TIMOUT is set and is no setting; was WEBHOOK_TIMEOUT meant?";
    assert!(lines.contains(&note.to_owned()), "{lines:#?}");
}

/// What it prints, written to a file, is a configuration again.
#[test]
fn what_check_config_prints_can_be_used_as_a_file() {
    let place = Place::new("", "");
    let lines =
        place.in_force(&["--concurrency=7", "--https-only", "--allow-cidr=10.0.0.0/8", "--retention=0"], &[]);
    std::fs::write(place.path("webhook.toml"), lines.join("\n")).unwrap();
    let again = place.in_force(&["--config=webhook.toml"], &[]);
    for key in
        ["listen", "database_url", "concurrency", "https_only", "allow_cidr", "retention", "retry", "log"]
    {
        assert_eq!(of(&again, key), (of(&lines, key).0, "file webhook.toml"));
    }
}

/// `UPDATE=1 cargo test -p webhook-server --test server the_committed_page_of_settings` writes it anew.
#[test]
fn the_committed_page_of_settings_is_what_the_code_says() {
    let mut process = Process::start(&["configuration"]);
    assert!(process.ended().success());
    let written = process.stdout().join("\n") + "\n";
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &written).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == written,
        "docs/configuration.md is not what the code says; run this test with UPDATE=1"
    );
}
