use std::collections::HashMap;

use super::*;

fn read(flags: &ServeFlags, variables: &[(&str, &str)]) -> Result<ServeConfig, String> {
    let variables: HashMap<&str, &str> = variables.iter().copied().collect();
    ServeConfig::read(flags, &|name| variables.get(name).map(OsString::from))
        .map_err(|error| error.to_string())
}

#[test]
fn without_flags_and_environment_the_documented_defaults_hold() {
    let config = read(&ServeFlags::default(), &[]).unwrap();
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
    let flags = ServeFlags { timeout: Some("2s".to_owned()), ..ServeFlags::default() };
    let config = read(&flags, &[("WEBHOOK_TIMEOUT", "9s"), ("WEBHOOK_LEASE", "3s")]).unwrap();
    assert_eq!((config.timeout, config.lease), (Duration::from_secs(2), Duration::from_secs(3)));
}

#[test]
fn ranges_of_flags_replace_those_of_the_environment() {
    let variables = [("WEBHOOK_ALLOW_CIDRS", "10.0.0.0/8, fd00::/8")];
    let config = read(&ServeFlags::default(), &variables).unwrap();
    assert_eq!(config.rules.allow, ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
    let flags = ServeFlags { allow_cidr: vec!["127.0.0.1".to_owned()], ..ServeFlags::default() };
    let config = read(&flags, &variables).unwrap();
    assert_eq!(config.rules.allow, ["127.0.0.1/32".parse().unwrap()]);
}

#[test]
fn an_empty_variable_is_not_set() {
    assert!(read(&ServeFlags::default(), &[("WEBHOOK_TIMEOUT", ""), ("WEBHOOK_ROLE", "")]).is_ok());
}

#[test]
fn retention_zero_keeps_everything() {
    let config = read(&ServeFlags::default(), &[("WEBHOOK_RETENTION", "0")]).unwrap();
    assert_eq!(config.retention, None);
}

#[test]
fn max_age_zero_never_expires_anything() {
    let config = read(&ServeFlags::default(), &[("WEBHOOK_MAX_AGE", "0")]).unwrap();
    assert_eq!(config.max_age, None);
}

#[test]
fn an_error_names_flag_variable_value_and_what_is_accepted() {
    let error = read(&ServeFlags::default(), &[("WEBHOOK_CONCURRENCY", "many")]).unwrap_err();
    assert_eq!(
        error,
        "--concurrency \"many\" (from WEBHOOK_CONCURRENCY): expected a whole number from 1 to 100000"
    );
}

#[test]
fn a_password_in_a_database_url_is_not_repeated() {
    let variables = [("DATABASE_URL", "postgres://webhooks:hunter2@db:port/webhooks")];
    let error = read(&ServeFlags::default(), &variables).unwrap_err();
    assert!(error.starts_with("--database-url \"postgres://…\" (from DATABASE_URL): "), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn roles_apart_need_a_database_that_processes_share() {
    let with = |url: &str, role: &str| {
        let variables = [("DATABASE_URL", url), ("WEBHOOK_ROLE", role)];
        read(&ServeFlags::default(), &variables).map(|config| config.role)
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
    let flags = ListenFlags { secret: Some("whsec_short".to_owned()), ..ListenFlags::default() };
    let error = ListenConfig::read(&flags).unwrap_err().to_string();
    assert!(error.starts_with("--secret: "), "{error}");
    assert!(!error.contains("whsec_short"), "{error}");
}

#[test]
fn a_setting_of_another_version_is_refused_rather_than_ignored() {
    let error = read(&ServeFlags::default(), &[("WEBHOOK_ENCRYPTION_KEYS", "0123456789abcdef")]).unwrap_err();
    assert!(error.contains("WEBHOOK_ENCRYPTION_KEYS") && !error.contains("0123456789abcdef"), "{error}");
}

#[test]
fn without_keys_only_loopback_is_listened_on() {
    for address in ["0.0.0.0:8080", "[::]:8080", "192.168.1.5:80"] {
        assert!(listen_address(address, false).unwrap_err().contains("API keys"), "{address}");
    }
    for address in ["127.0.0.1:0", "127.8.8.8:80", "[::1]:8080", "[::ffff:127.0.0.1]:80", "localhost:8080"] {
        assert!(listen_address(address, false).is_ok(), "{address}");
    }
    for address in ["8080", "localhost", "example.com:80", ""] {
        assert!(listen_address(address, false).is_err(), "{address}");
        assert!(listen_address(address, true).is_err(), "{address}");
    }
}

#[test]
fn with_keys_any_address_is_listened_on() {
    for address in ["0.0.0.0:8080", "[::]:8080", "192.168.1.5:80", "127.0.0.1:8080"] {
        assert!(listen_address(address, true).is_ok(), "{address}");
    }
    let variables = [("WEBHOOK_LISTEN", "0.0.0.0:8080"), ("WEBHOOK_API_KEYS", "0123456789abcdef")];
    let config = read(&ServeFlags::default(), &variables).unwrap();
    assert_eq!(config.listen.to_string(), "0.0.0.0:8080");
    assert!(!format!("{config:?}").contains("0123456789abcdef"));
}

#[test]
fn a_misspelt_log_level_is_not_taken_for_a_target() {
    assert!(log_filter("inof").is_err());
    assert!(log_filter("webhook_core=loud").is_err());
    assert!(log_filter("warn, webhook_core=debug").is_ok());
    assert!(log_filter("").is_err());
}
