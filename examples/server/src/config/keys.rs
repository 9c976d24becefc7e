//! The API keys: those of `--api-key` and `--api-key-file` together, from the strongest source that has either. No
//! message repeats one.

use webhook_http_axum::Keys;

use super::settings::{API_KEY, API_KEY_FILE};
use super::sources::{ConfigError, Sources};

/// A file of keys is read to here; the longest key has 512 characters.
const LARGEST_FILE: u64 = 1024 * 1024;

/// The keys in force; `None` when no source has any.
///
/// # Errors
/// What is no key, by its place; a file that cannot be read; a source without keys, since whoever gives one means
/// to lock the server.
pub(super) fn read(sources: &Sources) -> Result<Option<Keys>, ConfigError> {
    let mut keys = Keys::new();
    if let Some(given) = sources.find(&API_KEY)? {
        add_all(&mut keys, &given.texts).map_err(|error| given.refuse(error))?;
    }
    if let Some(given) = sources.find(&API_KEY_FILE.spec)? {
        add_file(&mut keys, &given.text()).map_err(|error| given.refuse(error))?;
    }
    Ok((!keys.is_empty()).then_some(keys))
}

fn add_all(keys: &mut Keys, texts: &[impl AsRef<str>]) -> Result<(), String> {
    if texts.is_empty() {
        return Err("expected keys, separated by commas".to_owned());
    }
    for (place, text) in (1..).zip(texts) {
        add(keys, text.as_ref(), &format!("key {place}"))?;
    }
    Ok(())
}

fn add(keys: &mut Keys, text: &str, place: &str) -> Result<(), String> {
    keys.add(text).map_err(|error| format!("{place} is refused: {error}"))
}

/// One a line; blank lines and those that begin with `#` are left out.
fn add_file(keys: &mut Keys, path: &str) -> Result<(), String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > LARGEST_FILE {
        return Err("the file is larger than 1 MiB, which keys never are".to_owned());
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let lines = (1..).zip(text.lines().map(str::trim));
    let mut found = false;
    for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        add(keys, line, &format!("line {number}"))?;
        found = true;
    }
    if found { Ok(()) } else { Err("the file has no key; write one a line".to_owned()) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::Write as _;

    use super::super::sources::Flags;
    use super::*;

    const ONE: &str = "0123456789abcdef";
    const TWO: &str = "acme:fedcba9876543210";

    /// How many keys there are by these flags, this variable and this `.env`.
    fn count(flags: Flags, variable: Option<&str>, dot_env: &str) -> Result<Option<usize>, String> {
        let environment: HashMap<_, _> =
            variable.map(|keys| ("WEBHOOK_API_KEYS".to_owned(), keys.into())).into_iter().collect();
        let sources = Sources::new(flags, environment, Some(dot_env)).unwrap();
        let keys = read(&sources).map_err(|error| error.to_string())?;
        Ok(keys.map(|keys| keys.len()))
    }

    fn given(keys: &[&str]) -> Flags {
        let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        [("api-key", keys)].into_iter().filter(|(_, keys)| !keys.is_empty()).collect()
    }

    fn with_file(mut flags: Flags, path: &str) -> Flags {
        flags.insert("api-key-file", vec![path.to_owned()]);
        flags
    }

    #[test]
    fn keys_come_from_flags_and_a_file_or_else_from_the_environment() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "# of the shop\n\n  {TWO} \r\n").unwrap();
        let path = file.path().to_str().unwrap();
        assert_eq!(count(given(&[]), None, ""), Ok(None));
        assert_eq!(count(given(&[]), Some(""), ""), Ok(None));
        assert_eq!(count(given(&[]), Some(&format!("{ONE}, {TWO},")), ""), Ok(Some(2)));
        assert_eq!(count(given(&[ONE]), Some(&format!("{ONE},{TWO}")), ""), Ok(Some(1)));
        assert_eq!(count(with_file(given(&[ONE]), path), None, ""), Ok(Some(2)));
        // A source that has either has both: a stronger file is not joined by weaker keys.
        let here = with_file(given(&[]), path);
        assert_eq!(count(here, Some(&format!("{ONE},0123456789abcdeg")), ""), Ok(Some(1)));
        let dot_env = format!("WEBHOOK_API_KEYS={ONE}\nWEBHOOK_API_KEY_FILE={path}\n");
        assert_eq!(count(given(&[]), None, &dot_env), Ok(Some(2)));
        assert_eq!(count(given(&[]), Some("0123456789abcdeg"), &dot_env), Ok(Some(1)));
        let twice = count(with_file(given(&[TWO]), path), None, "");
        assert!(twice.as_ref().unwrap_err().contains("line 3"), "{twice:?}");
    }

    #[test]
    fn what_is_no_key_is_named_by_its_place_and_not_repeated() {
        for (flags, variable, place) in [
            (given(&[ONE, "tooshort"]), None, "--api-key: key 2"),
            (given(&[""]), None, "--api-key: key 1"),
            (given(&["a b:0123456789abcdef"]), None, "--api-key: key 1"),
            (given(&[]), Some("0123456789abcdef,tooshort"), "--api-key (from WEBHOOK_API_KEYS): key 2"),
            (given(&[]), Some(" , "), "--api-key (from WEBHOOK_API_KEYS): expected keys"),
        ] {
            let error = count(flags, variable, "").unwrap_err();
            assert!(error.starts_with(place), "{error}");
            assert!(!error.contains("tooshort") && !error.contains(ONE), "{error}");
        }
    }

    #[test]
    fn a_file_without_keys_or_no_file_locks_nobody_in() {
        let empty = tempfile::NamedTempFile::new().unwrap();
        for (path, part) in [(empty.path().to_str().unwrap(), "no key"), ("/nowhere/keys", "/nowhere/keys")] {
            let error = count(with_file(given(&[]), path), None, "").unwrap_err();
            assert!(error.starts_with("--api-key-file ") && error.contains(part), "{error}");
        }
    }
}
