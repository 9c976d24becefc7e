//! Called wrongly: exit code 2, and one line that says what is wrong with what.

use crate::support::process::{Process, binary};

/// Runs to the end and gives exit code and stderr.
fn refused(command: &mut std::process::Command) -> (i32, Vec<String>) {
    let mut process = Process::spawn(command);
    let status = process.ended();
    assert_eq!(process.stdout(), Vec::<String>::new(), "stdout is not for errors");
    (status.code().expect("an exit code"), process.stderr())
}

#[test]
fn a_bad_value_is_one_line_that_names_flag_value_and_what_is_accepted() {
    // flag, value, part of what is accepted
    let table = [
        ("--listen", "8080", "127.0.0.1:8080"),
        ("--listen", "0.0.0.0:8080", "loopback"),
        ("--listen", "[::]:8080", "loopback"),
        ("--listen", "127.0.0.1:99999", "127.0.0.1:8080"),
        ("--database-url", "webhooks.db", "sqlite://PATH"),
        ("--database-url", "sqlite://", "sqlite://PATH"),
        ("--role", "both", "all, api or worker"),
        ("--role", "worker", "postgres://"),
        ("--allow-cidr", "10.0.0.0/33", "10.0.0.0/8"),
        ("--https-only", "perhaps", "true or false"),
        ("--concurrency", "0", "from 1 to"),
        ("--concurrency", "many", "from 1 to"),
        ("--max-in-flight", "-1", "from 1 to"),
        ("--timeout", "15", "ms, s, m, h or d"),
        ("--timeout", "0", "from 100ms to"),
        ("--retry", "sometimes", "schedule:"),
        ("--retry", "schedule:10s,soon", "10s"),
        ("--retry", "exponential:10s", "attempts=7"),
        ("--lease", "1ms", "from 100ms to"),
        ("--retention", "3 days", "0 to keep everything"),
        ("--max-age", "soon", "0 for never"),
        ("--max-payload", "1M", "KiB"),
        ("--max-payload", "0", "from 1 byte to"),
        ("--migrate", "no", "true or false"),
        ("--log-format", "xml", "pretty or json"),
        ("--log", "loud", "error, warn, info"),
        ("--shutdown-grace", "-1s", "10s"),
    ];
    for (flag, value, accepted) in table {
        let argument = format!("{flag}={value}");
        for words in [vec![argument.as_str()], vec!["serve", argument.as_str()]] {
            let (code, lines) = refused(&mut binary(&words));
            assert_eq!((code, lines.len()), (2, 1), "{words:?}: {lines:#?}");
            assert!(lines[0].contains(flag), "the flag: {lines:#?}");
            assert!(lines[0].contains(value), "the value: {lines:#?}");
            assert!(lines[0].contains(accepted), "what is accepted: {lines:#?}");
        }
    }
}

#[test]
fn a_bad_value_of_the_environment_names_flag_and_variable() {
    let table = [
        ("WEBHOOK_LISTEN", "--listen", "example.com:80"),
        ("DATABASE_URL", "--database-url", "webhooks"),
        ("WEBHOOK_ROLE", "--role", "api"),
        ("WEBHOOK_ALLOW_CIDRS", "--allow-cidr", "10.0.0.0/8,nonsense"),
        ("WEBHOOK_HTTPS_ONLY", "--https-only", "perhaps"),
        ("WEBHOOK_CONCURRENCY", "--concurrency", "x"),
        ("WEBHOOK_MAX_IN_FLIGHT", "--max-in-flight", "x"),
        ("WEBHOOK_TIMEOUT", "--timeout", "15"),
        ("WEBHOOK_RETRY", "--retry", "x"),
        ("WEBHOOK_LEASE", "--lease", "x"),
        ("WEBHOOK_RETENTION", "--retention", "x"),
        ("WEBHOOK_MAX_PAYLOAD", "--max-payload", "x"),
        ("WEBHOOK_MIGRATE", "--migrate", "x"),
        ("WEBHOOK_LOG_FORMAT", "--log-format", "x"),
        ("WEBHOOK_LOG", "--log", "x"),
        ("WEBHOOK_SHUTDOWN_GRACE", "--shutdown-grace", "x"),
    ];
    for (variable, flag, value) in table {
        let (code, lines) = refused(binary(&[]).env(variable, value));
        assert_eq!((code, lines.len()), (2, 1), "{variable}: {lines:#?}");
        assert!([variable, flag, value].iter().all(|part| lines[0].contains(part)), "{variable}: {lines:#?}");
    }
}

#[test]
fn an_unknown_word_is_one_line_too() {
    let table: [(&[&str], &str); 11] = [
        (&["--time-out", "3s"], "--time-out"),
        (&["--encryption-key", "0123456789abcdef"], "--encryption-key"),
        (&["serve", "--role", "api"], "--role"),
        (&["migrate", "--database-url", "memory:"], "--database-url"),
        (&["migrate", "--queue", "rabbit"], "--queue"),
        (&["--timeout"], "--timeout"),
        (&["--timeout", "1s", "--timeout", "2s"], "--timeout"),
        (&["sevre"], "'serve'"),
        (&["--timeout=1s", "migrate"], "'migrate'"),
        (&["listen", "--port", "70000"], "--port"),
        (&["demo", "--seconds", "soon"], "--seconds"),
    ];
    for (words, named) in table {
        let (code, lines) = refused(&mut binary(words));
        assert_eq!((code, lines.len()), (2, 1), "{words:?}: {lines:#?}");
        assert!(lines[0].contains(named), "{words:?}: {lines:#?}");
    }
}

#[test]
fn a_file_has_no_other_queue_than_its_own() {
    for words in [["migrate", "--queue=redis"], ["serve", "--redis-url=redis://127.0.0.1:1"]] {
        let (code, lines) = refused(&mut binary(&words));
        assert_eq!((code, lines.len()), (2, 1), "{lines:#?}");
        assert!(lines[0].contains(&words[1][..7]) && lines[0].contains("postgres://"), "{lines:#?}");
    }
}

/// In the configuration, not when it is opened: the database is never asked.
#[test]
fn a_redis_url_that_cannot_be_used_is_refused_and_not_repeated() {
    for url in [
        "redis://:hunter2@h:99999",
        "redis://:hunter2@h/hunter2",
        "redis://:hunter2@h/256",
        "redis://:hunter2?x@cache:6379",
        "redis-sentinel://:hunter2@h:1",
        "http://:hunter2@h",
        "hunter2",
    ] {
        for command in ["serve", "check-config"] {
            let words = [command, "--database-url=postgres://db.invalid/x", "--redis-url", url];
            let (code, lines) = refused(&mut binary(&words));
            assert_eq!((code, lines.len()), (2, 1), "{lines:#?}");
            assert!(lines[0].contains("--redis-url") && lines[0].contains("expected redis://"), "{lines:#?}");
            let is_told = url != "hunter2" && lines[0].contains("hunter2");
            assert!(!is_told, "{lines:#?}");
        }
    }
}

#[test]
fn a_stray_word_is_named_by_its_place_alone() {
    for (words, place) in [
        (&["--api-key", "hunter2hunter2hunter2", "hunter2hunter2hunter3"][..], "word 3"),
        (&["serve", "--api-key", "hunter2hunter2hunter2", "hunter2hunter2hunter2"], "word 4"),
        (&["--https-only=true", "hunter2"], "word 2"),
        (&["check-config", "--", "hunter2"], "word 3"),
        (&["hunter2", "--timeout=1s"], "word 1"),
    ] {
        let (code, lines) = refused(&mut binary(words));
        assert_eq!((code, lines.len()), (2, 1), "{words:?}: {lines:#?}");
        assert!(lines[0].contains(place) && !lines[0].contains("hunter2"), "{words:?}: {lines:#?}");
    }
}

#[test]
fn what_is_not_built_is_refused_with_a_word_about_it() {
    let (code, lines) = refused(binary(&[]).env("WEBHOOK_ENCRYPTION_KEYS", "0123456789abcdef"));
    assert_eq!((code, lines.len()), (2, 1), "{lines:#?}");
    let line = &lines[0];
    assert!(line.contains("WEBHOOK_ENCRYPTION_KEYS") && !line.contains("0123456789abcdef"), "{line}");
}

#[test]
fn a_password_of_a_database_is_never_repeated() {
    for url in ["postgres://webhooks:hunter2@db:port/webhooks", "mysql://webhooks:hunter2@db/webhooks"] {
        let (code, lines) = refused(&mut binary(&["--database-url", url]));
        assert_eq!((code, lines.len()), (2, 1), "{lines:#?}");
        assert!(lines[0].contains("--database-url") && !lines[0].contains("hunter2"), "{lines:#?}");
    }
}

#[test]
fn a_secret_is_never_repeated() {
    let (code, lines) = refused(&mut binary(&["listen", "--secret", "whsec_tooshort"]));
    assert_eq!((code, lines.len()), (2, 1), "{lines:#?}");
    assert!(lines[0].contains("--secret") && !lines[0].contains("tooshort"), "{lines:#?}");
}

#[test]
fn a_key_that_is_none_is_not_repeated() {
    for (words, variable, flag) in [
        (&["--api-key", "tooshort"][..], "", "--api-key: key 1"),
        (&["--api-key", "acme:tooshort"], "", "--api-key: key 1"),
        (&[], "0123456789abcdef,tooshort", "--api-key (from WEBHOOK_API_KEYS): key 2"),
        (&["--api-key-file", "/nowhere/keys"], "", "--api-key-file \"/nowhere/keys\""),
    ] {
        let (code, lines) = refused(binary(words).env("WEBHOOK_API_KEYS", variable));
        assert_eq!((code, lines.len()), (2, 1), "{lines:#?}");
        assert!(lines[0].contains(flag) && !lines[0].contains("tooshort"), "{lines:#?}");
    }
}

#[test]
fn a_value_cannot_forge_a_second_line() {
    let (code, lines) = refused(&mut binary(&["--timeout", "1s\nwebhook-server: all is well \x1b[2J"]));
    assert_eq!((code, lines.len()), (2, 1), "{lines:#?}");
    assert!(!lines[0].contains('\x1b'), "{lines:#?}");
}

#[test]
fn help_and_version_are_no_mistakes() {
    for (word, part) in [("--help", "--database-url"), ("--version", env!("CARGO_PKG_VERSION"))] {
        let mut process = Process::start(&[word]);
        assert!(process.ended().success());
        assert!(process.stdout().iter().any(|line| line.contains(part)), "{word}: {:#?}", process.stdout());
        assert_eq!(process.stderr(), Vec::<String>::new());
    }
}

#[test]
fn openapi_prints_the_committed_document() {
    let mut process = Process::start(&["openapi"]);
    assert!(process.ended().success());
    let committed = include_str!("../../../../docs/openapi.json");
    assert_eq!(process.stdout().join("\n"), committed.trim_end());
}
