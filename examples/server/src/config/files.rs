//! The two files that can hold settings: `.env`, whose text [`dot_env`] reads, and a TOML file of keys.
//!
//! Both may hold secrets, so an error names the file, the line and the key, and never repeats the line. A variable of
//! `.env` that is none of ours is left alone: the file is shared with other programs. A key of the TOML file that is
//! none of ours is an error, since the file is ours and a misspelt setting would be silently without effect.

use std::collections::HashMap;
use std::fmt::Display;
use std::io;

use toml::de::{DeTable, DeValue};

use super::dot_env;
use super::settings::SERVE;
use super::sources::{ConfigError, DOT_ENV, items};
use super::spec::{Shape, Spec};

/// A configuration file's values.
pub(super) struct File {
    pub(super) path: String,
    /// By the settings' names.
    pub(super) values: HashMap<&'static str, Vec<String>>,
}

impl File {
    /// Reads the text of the file at `path`.
    ///
    /// # Errors
    /// When it is no TOML, or has a key that is no setting, or a value that no setting has.
    pub(super) fn read(path: &str, text: &str) -> Result<Self, ConfigError> {
        let wrong = |at: usize, detail: &dyn Display| {
            let line = text.get(..at).unwrap_or(text).matches('\n').count() + 1;
            ConfigError(format!("{path}, line {line}: {detail}"))
        };
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            wrong(at, &format_args!("this is no TOML: {}", error.message()))
        })?;
        let mut values = HashMap::new();
        for (key, value) in table.get_ref() {
            let at = key.span().start;
            let spec = known(key.get_ref()).map_err(|detail| wrong(at, &detail))?;
            let texts = texts(spec, value.get_ref()).map_err(|detail| wrong(at, &detail))?;
            if !texts.is_empty() {
                values.insert(spec.name, texts);
            }
        }
        Ok(Self { path: path.to_owned(), values })
    }
}

/// The setting that has this key.
fn known(key: &str) -> Result<&'static Spec, String> {
    let in_file = || SERVE.iter().filter(|spec| spec.in_file);
    if let Some(spec) = in_file().find(|spec| spec.key() == key) {
        return Ok(spec);
    }
    let keys: Vec<String> = in_file().map(|spec| spec.key()).collect();
    // A variable's name, or a flag's, was meant to be the key.
    let meant = key.to_lowercase().replace('-', "_");
    let meant = meant.strip_prefix("webhook_").unwrap_or(&meant);
    let nearest = nearest(meant, keys.iter().map(String::as_str)).map_or("none", |(name, _)| name);
    Err(format!("there is no setting {key:?}; the nearest is {nearest}"))
}

fn texts(spec: &Spec, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    if let (Shape::List, DeValue::Array(array)) = (spec.shape, value) {
        let items = array.iter().map(|item| scalar(item.get_ref()).filter(|_| item.get_ref().is_str()));
        return items
            .collect::<Option<_>>()
            .ok_or_else(|| format!("{}: expected an array of strings", spec.key()));
    }
    let text = scalar(value).ok_or_else(|| {
        let expected = match spec.shape {
            Shape::One => "a string",
            Shape::Switch => "true or false",
            Shape::List => "an array of strings",
        };
        format!("{}: expected {expected}, not a value of the kind {}", spec.key(), value.type_str())
    })?;
    Ok(items(spec, &text))
}

/// The text of a value that is one: `concurrency = 512` says the same as `concurrency = "512"`.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(is) => Some(is.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// The name that takes the fewest changes, and how many.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<(&'a str, usize)> {
    known.map(|other| (other, strsim::damerau_levenshtein(name, other))).min_by_key(|(_, distance)| *distance)
}

/// The text of `.env` in the working directory, when there is such a file.
///
/// # Errors
/// When it cannot be read.
pub(super) fn dot_env_here() -> Result<Option<String>, ConfigError> {
    // Some tools make a directory of that name, which is nobody's settings.
    if std::path::Path::new(DOT_ENV).is_dir() {
        return Ok(None);
    }
    match std::fs::read_to_string(DOT_ENV) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ConfigError(format!("{DOT_ENV} in the working directory cannot be read: {error}"))),
    }
}

/// The variables of such a text.
///
/// # Errors
/// At the first line that sets no variable, and where one of ours counts on a replacement.
pub(super) fn read_dot_env(text: &str) -> Result<HashMap<String, String>, ConfigError> {
    let ours = |name: &str| SERVE.iter().any(|spec| spec.variable == Some(name));
    dot_env::read(text, ours)
        .map_err(|wrong| ConfigError(format!("{DOT_ENV}, line {}: {}", wrong.line, wrong.detail)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<HashMap<&'static str, Vec<String>>, String> {
        File::read("webhook.toml", text).map(|file| file.values).map_err(|error| error.to_string())
    }

    #[test]
    fn keys_are_the_flags_names_with_underscores_and_lists_are_arrays() {
        let values = read(
            "# ours\nallow_cidr = ['10.0.0.0/8', \"fd00::/8\"]\nhttps_only = true\nconcurrency = 1_000\n\
             timeout = \"3s\"\nretention = 0\napi_key = []\n",
        )
        .unwrap();
        assert_eq!(values["allow-cidr"], ["10.0.0.0/8", "fd00::/8"]);
        assert_eq!(values["https-only"], ["true"]);
        assert_eq!(values["concurrency"], ["1000"]);
        assert_eq!(
            (&values["timeout"][..], &values["retention"][..]),
            (&["3s".into()][..], &["0".into()][..])
        );
        assert!(!values.contains_key("api-key"), "an empty array is not set");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_setting() {
        for (text, key, nearest) in [
            ("timeot = '3s'", "timeot", "timeout"),
            ("\n\nmax-payload = '1MiB'", "max-payload", "max_payload"),
            ("WEBHOOK_ALLOW_CIDRS = []", "WEBHOOK_ALLOW_CIDRS", "allow_cidr"),
            ("api_keys = []", "api_keys", "api_key"),
            ("config = 'other.toml'", "config", ""),
            ("queue = 'redis'", "queue", ""),
            ("[server]\nlisten = '127.0.0.1:1'", "server", ""),
        ] {
            let error = read(text).unwrap_err();
            let line = if text.starts_with('\n') { 3 } else { 1 };
            let expected =
                format!("webhook.toml, line {line}: there is no setting {key:?}; the nearest is {nearest}");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn no_error_repeats_what_stands_in_the_file() {
        for text in [
            "api_key = hunter2hunter2hunter2",
            "api_key = \"hunter2hunter2hunter2",
            "redis_url = ['redis://:hunter2@host']",
            "database_url = { url = 'hunter2' }",
            "api_key = [1, 'hunter2']",
            "api_key = 'a'\napi_key = 'hunter2'",
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with("webhook.toml, line "), "{error}");
            assert!(!error.contains("hunter2") && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_line_that_sets_nothing_is_named_and_not_repeated() {
        let error = read_dot_env("WEBHOOK_LOG=info\nhunter2 is my password\n").unwrap_err().to_string();
        assert_eq!(error, ".env, line 2: expected NAME=VALUE");
        let error = read_dot_env("DATABASE_URL=postgres://app:${PASSWORD}@db\n").unwrap_err().to_string();
        assert!(error.starts_with(".env, line 1: DATABASE_URL has a ${"), "{error}");
        assert!(read_dot_env("OTHER=${PASSWORD}\n").is_ok(), "what others make of theirs is theirs");
    }
}
