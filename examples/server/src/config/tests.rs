use super::spec::Spec;
use super::*;

fn flags(given: &[(&'static str, &str)]) -> Flags {
    given.iter().map(|(name, text)| (*name, vec![(*text).to_owned()])).collect()
}

fn sources(given: Flags, variables: &[(&str, &str)], dot_env: &str) -> Result<Sources, ConfigError> {
    let variables = variables.iter().map(|(name, text)| ((*name).to_owned(), (*text).into()));
    Sources::new(given, variables.collect(), Some(dot_env))
}

fn read(given: &[(&'static str, &str)], variables: &[(&str, &str)]) -> Result<ServeConfig, String> {
    let config = sources(flags(given), variables, "").and_then(|sources| ServeConfig::read(&sources));
    config.map_err(|error| error.to_string())
}

/// Every row of the table, once.
fn rows() -> impl Iterator<Item = &'static Spec> {
    let lists = [table::SERVE, table::MIGRATION, table::HEALTHCHECK, table::DEMO, table::RECEIVER];
    let mut seen = std::collections::HashSet::new();
    lists.into_iter().flatten().copied().filter(move |spec| seen.insert(spec.name))
}

#[test]
fn the_table_gives_each_setting_names_of_its_own_and_a_meaning() {
    let (mut variables, mut count) = (std::collections::HashSet::new(), 0);
    for spec in rows() {
        count += 1;
        assert!(spec.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", spec.name);
        assert!(spec.variable.is_none_or(|name| variables.insert(name)), "{}", spec.name);
        assert!(!spec.about.is_empty() && !spec.about.ends_with('.'), "{}", spec.name);
        assert!(!spec.in_file || spec.variable.is_some(), "{}", spec.name);
        for other in spec.together {
            let other = rows().find(|row| row.name == *other).expect("the other is in the table");
            assert!(
                other.together.contains(&spec.name),
                "{} and {} are one both ways",
                spec.name,
                other.name
            );
        }
    }
    assert!(count > 25, "{count}");
}

#[test]
fn every_default_is_accepted() {
    let nothing = || sources(Flags::new(), &[], "").unwrap();
    ServeConfig::read(&nothing()).unwrap();
    MigrateConfig::read(&nothing()).unwrap();
    HealthcheckConfig::read(&nothing()).unwrap();
    DemoConfig::read(&nothing()).unwrap();
    ListenConfig::read(&nothing()).unwrap();
}

#[test]
fn without_flags_and_environment_the_documented_defaults_hold() {
    let config = read(&[], &[]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.database.to_string(), "sqlite://webhooks.db");
    assert_eq!(config.rules, TargetRules::default());
    assert_eq!((config.concurrency, config.max_in_flight), (512, 64));
    assert_eq!((config.timeout, config.lease), (Duration::from_secs(15), Duration::from_secs(30)));
    assert_eq!(config.retry, RetrySpec::standard());
    assert_eq!(config.retention, Some(Duration::from_secs(72 * 3600)));
    assert_eq!((config.max_payload, config.migrate), (1 << 20, true));
    assert_eq!(config.shutdown_grace, Duration::from_secs(30));
}

#[test]
fn a_flag_wins_over_the_environment_and_the_environment_over_the_default() {
    let config = read(&[("timeout", "2s")], &[("WEBHOOK_TIMEOUT", "9s"), ("WEBHOOK_LEASE", "3s")]).unwrap();
    assert_eq!((config.timeout, config.lease), (Duration::from_secs(2), Duration::from_secs(3)));
}

#[test]
fn ranges_of_flags_replace_those_of_the_environment() {
    let variables = [("WEBHOOK_ALLOW_CIDRS", "10.0.0.0/8, fd00::/8")];
    let config = read(&[], &variables).unwrap();
    assert_eq!(config.rules.allow, ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
    let config = read(&[("allow-cidr", "127.0.0.1")], &variables).unwrap();
    assert_eq!(config.rules.allow, ["127.0.0.1/32".parse().unwrap()]);
}

#[test]
fn an_empty_variable_is_not_set() {
    assert!(read(&[], &[("WEBHOOK_TIMEOUT", ""), ("WEBHOOK_ROLE", "")]).is_ok());
}

#[test]
fn retention_zero_keeps_everything() {
    let config = read(&[], &[("WEBHOOK_RETENTION", "0")]).unwrap();
    assert_eq!(config.retention, None);
}

#[test]
fn max_age_zero_never_expires_anything() {
    let config = read(&[], &[("WEBHOOK_MAX_AGE", "0")]).unwrap();
    assert_eq!(config.max_age, None);
}

#[test]
fn an_error_names_flag_variable_value_and_what_is_accepted() {
    let error = read(&[], &[("WEBHOOK_CONCURRENCY", "many")]).unwrap_err();
    assert_eq!(
        error,
        "--concurrency \"many\" (from WEBHOOK_CONCURRENCY): expected a whole number from 1 to 100000"
    );
}

#[test]
fn a_password_in_a_database_url_is_not_repeated() {
    for (url, shown) in [
        ("postgres://webhooks:hunter2@db:port/webhooks", "\"postgres://…\""),
        ("https://webhooks:hunter2@db/webhooks", "\"https://…\""),
        ("mysql://db/webhooks?password=hunter2", "\"mysql://…\""),
        ("postgres:webhooks:hunter2@db", "\"…\""),
        ("host=db password=hunter2", "\"…\""),
        ("password=hunter2 host=x://db", "\"…\""),
        ("webhooks.db", "\"webhooks.db\""),
    ] {
        let error = read(&[], &[("DATABASE_URL", url)]).unwrap_err();
        assert!(error.starts_with(&format!("--database-url {shown} (from DATABASE_URL): ")), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn roles_apart_need_a_database_that_processes_share() {
    let with = |url: &str, role: &str| {
        let variables = [("DATABASE_URL", url), ("WEBHOOK_ROLE", role)];
        read(&[], &variables).map(|config| config.role)
    };
    let postgres = "postgres://webhooks@db/webhooks";
    assert_eq!(with(postgres, "api"), Ok(Role::Api));
    assert_eq!(with(postgres, "worker"), Ok(Role::Worker));
    assert_eq!(with(postgres, ""), Ok(Role::All));
    for url in ["memory:", "sqlite://webhooks.db"] {
        assert_eq!(with(url, "all"), Ok(Role::All));
        let error = with(url, "api").unwrap_err();
        assert!(error.starts_with("--role \"api\" (from WEBHOOK_ROLE): expected all"), "{error}");
    }
    assert!(with(postgres, "both").unwrap_err().contains("expected all, api or worker"));
}

#[test]
fn a_signing_secret_is_not_repeated() {
    let sources = Sources::of_flags(flags(&[("secret", "whsec_short")]));
    let error = ListenConfig::read(&sources).unwrap_err().to_string();
    assert!(error.starts_with("--secret: "), "{error}");
    assert!(!error.contains("whsec_short"), "{error}");
}

#[test]
fn a_setting_of_another_version_is_refused_rather_than_ignored() {
    let error = read(&[], &[("WEBHOOK_ENCRYPTION_KEYS", "0123456789abcdef")]).unwrap_err();
    assert!(error.contains("WEBHOOK_ENCRYPTION_KEYS") && !error.contains("0123456789abcdef"), "{error}");
}

#[test]
fn without_keys_only_loopback_is_listened_on() {
    for address in ["0.0.0.0:8080", "[::]:8080", "192.168.1.5:80"] {
        let error = read(&[("listen", address)], &[]).unwrap_err();
        assert!(error.contains("API keys") && error.contains(address), "{error}");
    }
    for address in ["127.0.0.1:0", "127.8.8.8:80", "[::1]:8080", "[::ffff:127.0.0.1]:80", "localhost:8080"] {
        assert!(read(&[("listen", address)], &[]).is_ok(), "{address}");
    }
}

#[test]
fn with_keys_any_address_is_listened_on() {
    for address in ["0.0.0.0:8080", "[::]:8080", "192.168.1.5:80", "127.0.0.1:8080"] {
        let variables = [("WEBHOOK_LISTEN", address), ("WEBHOOK_API_KEYS", "0123456789abcdef")];
        let config = read(&[], &variables).unwrap();
        assert_eq!(config.listen.to_string(), address);
        assert!(!format!("{config:?}").contains("0123456789abcdef"));
    }
}

/// Each source wins over all that come after it, for a setting with one value and for a list.
#[test]
fn flags_win_over_the_environment_over_dot_env_over_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("webhook.toml");
    std::fs::write(&path, "timeout = '4s'\nallow_cidr = ['10.4.0.0/16', '10.5.0.0/16']\n").unwrap();
    let path = path.to_str().unwrap();
    let dot_env = format!("WEBHOOK_TIMEOUT=3s\nWEBHOOK_ALLOW_CIDRS=10.3.0.0/16\nWEBHOOK_CONFIG={path}\n");
    let given = flags(&[("timeout", "1s"), ("allow-cidr", "10.1.0.0/16")]);
    let variables = [("WEBHOOK_TIMEOUT", "2s"), ("WEBHOOK_ALLOW_CIDRS", "10.2.0.0/16")];
    let file = [("WEBHOOK_CONFIG", path)];
    for (sources, seconds, ranges) in [
        (sources(given, &variables, &dot_env), 1, &["10.1.0.0/16"][..]),
        (sources(Flags::new(), &variables, &dot_env), 2, &["10.2.0.0/16"]),
        (sources(Flags::new(), &[], &dot_env), 3, &["10.3.0.0/16"]),
        (sources(Flags::new(), &file, ""), 4, &["10.4.0.0/16", "10.5.0.0/16"]),
        (
            sources(flags(&[("config", path)]), &[("WEBHOOK_TIMEOUT", "")], ""),
            4,
            &["10.4.0.0/16", "10.5.0.0/16"],
        ),
        (sources(Flags::new(), &[], ""), 15, &[]),
    ] {
        let config = ServeConfig::read(&sources.unwrap()).unwrap();
        assert_eq!(config.timeout, Duration::from_secs(seconds));
        let expected: Vec<ipnet::IpNet> = ranges.iter().map(|range| range.parse().unwrap()).collect();
        assert_eq!(config.rules.allow, expected);
    }
}

#[test]
fn a_wrong_value_is_told_with_the_place_it_was_found_in() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("webhook.toml");
    std::fs::write(&path, "concurrency = 'many'\n").unwrap();
    let path = path.to_str().unwrap();
    let expected = ": expected a whole number from 1 to 100000";
    for (sources, start) in [
        (sources(flags(&[("concurrency", "many")]), &[], ""), "--concurrency \"many\"".to_owned()),
        (
            sources(Flags::new(), &[], "WEBHOOK_CONCURRENCY=many"),
            "--concurrency \"many\" (from WEBHOOK_CONCURRENCY in .env)".to_owned(),
        ),
        (
            sources(flags(&[("config", path)]), &[], ""),
            format!("--concurrency \"many\" (from concurrency in {path})"),
        ),
    ] {
        let error = ServeConfig::read(&sources.unwrap()).unwrap_err().to_string();
        assert_eq!(error, start + expected);
    }
}

#[test]
fn a_file_that_is_not_there_is_named_with_who_named_it() {
    let Err(error) = sources(Flags::new(), &[("WEBHOOK_CONFIG", "/nowhere/webhook.toml")], "") else {
        panic!("it is not there")
    };
    let error = error.to_string();
    assert!(
        error
            .starts_with("--config \"/nowhere/webhook.toml\" (from WEBHOOK_CONFIG): the file cannot be read"),
        "{error}"
    );
}

#[test]
fn a_variable_that_is_nearly_a_setting_is_noticed_and_others_are_not() {
    let variables = [("WEBHOOK_TIMOUT", "3s"), ("WEBHOOK_SERVICE_HOST", "10.0.0.1"), ("WEBHOOK_LOG", "info")];
    let sources = sources(Flags::new(), &variables, "WEBHOOK_LEASES=3s").unwrap();
    let expected =
        [("WEBHOOK_LEASES".to_owned(), "WEBHOOK_LEASE"), ("WEBHOOK_TIMOUT".to_owned(), "WEBHOOK_TIMEOUT")];
    assert_eq!(sources.misspelt(), expected);
}
