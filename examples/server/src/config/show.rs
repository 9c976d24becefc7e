//! What is in force and where it came from, for `webhook-server check-config`: the settings as a TOML file would have
//! them, each with its source as a comment, and secrets masked.
//!
//! What is shown was accepted before. A masked line is made of what is known to be harmless: of a list of keys their
//! number, of a URL its user, host, path and the parameters that are named here, so that a kind of secret nobody
//! thought of is not shown.

use std::fmt::Write as _;

use super::settings::SERVE;
use super::sources::{ConfigError, Sources};
use super::spec::{Secrecy, Shape, Spec};

const MASK: &str = "***";

/// Parameters of database and queue URLs that hold a secret. Their names tell none; one that is on neither list is shown
/// without its name, which may be a part of a password that was not escaped.
const SECRETS: &[&str] = &["password", "sentinelPassword", "sslpassword"];

/// Parameters of database and queue URLs that hold no secret.
const PARAMETERS: &[&str] = &[
    "application_name",
    "dbname",
    "host",
    "mode",
    "node",
    "options",
    "port",
    "sentinelServiceName",
    "sslcert",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// Where the comments begin, when the settings are not longer.
const COMMENTS: usize = 44;

/// The whole text.
///
/// # Errors
/// As for [`Sources::find`].
pub(crate) fn in_force(sources: &Sources) -> Result<String, ConfigError> {
    let mut text = "# The settings in force, and where each came from. Secrets are masked.\n".to_owned();
    let files = sources.files();
    if !files.is_empty() {
        let _ = writeln!(text, "# Files that were read: {}", one_line(&files.join(", ")));
    }
    for (name, nearest) in sources.misspelt() {
        let _ = writeln!(text, "# {} is set and is no setting; was {nearest} meant?", one_line(&name));
    }
    for spec in SERVE.iter().filter(|spec| spec.unbuilt.is_none()) {
        let (value, origin) = match (sources.find(spec)?, spec.default) {
            (Some(given), _) => (value(spec, &given.texts), given.origin()),
            (None, Some(default)) => (value(spec, &[default.to_owned()]), "default".to_owned()),
            (None, None) => {
                let _ = writeln!(text, "# {} is not set", spec.key());
                continue;
            }
        };
        // A setting that no file can hold is no line of one.
        let mark = if spec.in_file { "" } else { "# " };
        let line = format!("{mark}{} = {value}", spec.key());
        let _ = writeln!(text, "{line:<COMMENTS$} # {}", one_line(&origin));
    }
    Ok(text)
}

/// A value as TOML, as far as it may be shown.
fn value(spec: &Spec, texts: &[String]) -> String {
    let shown = |text: &String| match spec.secrecy {
        Secrecy::Public => text.clone(),
        Secrecy::Url => masked_url(text),
        Secrecy::Secret => MASK.to_owned(),
    };
    match spec.shape {
        Shape::List => {
            let items: Vec<String> = texts.iter().map(|text| quoted(&shown(text))).collect();
            format!("[{}]", items.join(", "))
        }
        Shape::Switch => texts.concat(),
        Shape::One => {
            let text = shown(&texts.concat());
            text.parse::<u32>().map_or_else(|_| quoted(&text), |number| number.to_string())
        }
    }
}

/// A basic string of TOML: <https://toml.io/en/v1.0.0#string>.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            _ if character.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(character));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

/// The URL without its password and whatever else may be one.
fn masked_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    if scheme == "sqlite" {
        return url.to_owned();
    }
    let (place, behind) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    let (authority, path) = place.split_once('/').map_or((place, None), |(host, path)| (host, Some(path)));
    // A password with an unescaped slash, question mark or number sign goes on in the path or behind it, up to the login's
    // own `@`, and then nothing is sure.
    if behind.contains('@') || path.is_some_and(|path| path.contains('@')) {
        return format!("{scheme}://{MASK}");
    }
    let mut shown = format!("{scheme}://");
    let host = match authority.rsplit_once('@') {
        Some((login, host)) => {
            let (user, password) = login.split_once(':').map_or((login, false), |(user, _)| (user, true));
            shown.push_str(user);
            shown.push_str(if password { ":***@" } else { "@" });
            host
        }
        None => authority,
    };
    shown.push_str(host);
    if let Some(path) = path {
        shown.push('/');
        shown.push_str(path);
    }
    let query = behind.split('#').next().unwrap_or_default().strip_prefix('?');
    let parameters = query.map(|query| query.split('&'));
    for (mark, parameter) in
        std::iter::once('?').chain(std::iter::repeat('&')).zip(parameters.into_iter().flatten())
    {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let _ = match name {
            _ if PARAMETERS.contains(&name) => write!(shown, "{mark}{name}={value}"),
            _ if SECRETS.contains(&name) => write!(shown, "{mark}{name}={MASK}"),
            _ => write!(shown, "{mark}{MASK}"),
        };
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        let table = [
            ("postgres://app:hunter2@db:6432/shop", "postgres://app:***@db:6432/shop"),
            ("postgres://app@db/shop?sslmode=require", "postgres://app@db/shop?sslmode=require"),
            (
                "postgres:///shop?host=/run/postgresql&user=app&password=hunter2",
                "postgres:///shop?host=/run/postgresql&user=app&password=***",
            ),
            ("postgres://app:p%40hunter2@db/shop#hunter2", "postgres://app:***@db/shop"),
            ("postgres://app:p@hunter2@db/shop", "postgres://app:***@db/shop"),
            ("postgres://app:1/hunter2@db/shop", "postgres://***"),
            ("redis://:hunter2@cache:6379/1", "redis://:***@cache:6379/1"),
            ("redis://:hunter2?x@cache:6379", "redis://***"),
            ("redis://:hunter2#x@cache:6379", "redis://***"),
            ("redis://:hunter2?x#y@cache:6379", "redis://***"),
            ("redis://cache?hunter2&x=hunter2&node=b:1", "redis://cache?***&***&node=b:1"),
            (
                "redis-sentinel://:hunter2@a:1?sentinelServiceName=m&sentinelPassword=hunter2",
                "redis-sentinel://:***@a:1?sentinelServiceName=m&sentinelPassword=***",
            ),
            ("rediss://cache", "rediss://cache"),
            ("sqlite:///var/lib/webhooks.db", "sqlite:///var/lib/webhooks.db"),
            ("memory:", "memory:"),
        ];
        for (url, shown) in table {
            assert_eq!(masked_url(url), shown);
        }
    }

    #[test]
    fn what_is_printed_is_toml() {
        for text in ["", "plain", "with \"quotes\" and \\", "two\nlines\u{7f}", "ü"] {
            let line = format!("a = {}", quoted(text));
            let table = toml::de::DeTable::parse(&line).unwrap();
            let value = table.get_ref().values().next().unwrap();
            assert_eq!(value.get_ref().as_str(), Some(text), "{line}");
        }
    }
}
