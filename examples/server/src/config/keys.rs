//! The API keys: from flags and a file, or else from the environment. No message repeats one.

use std::ffi::OsString;

use webhook_http_axum::Keys;

use super::{ConfigError, Setting};
use crate::cli::ServeFlags;

/// A file of keys is read to here; the longest key has 512 characters.
const LARGEST_FILE: u64 = 1024 * 1024;

/// The keys of `--api-key` and `--api-key-file` together, or of `WEBHOOK_API_KEYS` when there is neither; `None`
/// when no source is given.
///
/// # Errors
/// What is no key, by its place; a file that cannot be read; a source without keys, since whoever gives one means
/// to lock the server.
pub(super) fn read(
    flags: &ServeFlags,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<Keys>, ConfigError> {
    let mut keys = Keys::new();
    for (place, text) in (1..).zip(&flags.api_key) {
        let setting = Setting { secret: true, ..Setting::of_flag("--api-key", Some(text)) };
        setting.read(|text| add(&mut keys, text, &format!("key {place}")))?;
    }
    let file = Setting::of_flag("--api-key-file", flags.api_key_file.as_ref());
    file.read(|path| add_file(&mut keys, path))?;
    if !keys.is_empty() {
        return Ok(Some(keys));
    }
    let setting = Setting::of_both("--api-key", "WEBHOOK_API_KEYS", None, environment);
    Setting { secret: true, ..setting }.read(list)
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

fn list(text: &str) -> Result<Keys, String> {
    let mut keys = Keys::new();
    for (place, key) in (1..).zip(text.split(',').map(str::trim).filter(|key| !key.is_empty())) {
        add(&mut keys, key, &format!("key {place}"))?;
    }
    if keys.is_empty() { Err("expected keys, separated by commas".to_owned()) } else { Ok(keys) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const ONE: &str = "0123456789abcdef";
    const TWO: &str = "acme:fedcba9876543210";

    fn count(flags: &ServeFlags, variable: Option<&str>) -> Result<Option<usize>, String> {
        let environment = |name: &str| variable.filter(|_| name == "WEBHOOK_API_KEYS").map(OsString::from);
        let keys = read(flags, &environment).map_err(|error| error.to_string())?;
        Ok(keys.map(|keys| keys.len()))
    }

    fn given(keys: &[&str]) -> ServeFlags {
        ServeFlags { api_key: keys.iter().map(ToString::to_string).collect(), ..ServeFlags::default() }
    }

    #[test]
    fn keys_come_from_flags_and_a_file_or_else_from_the_environment() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        write!(file, "# of the shop\n\n  {TWO} \r\n").unwrap();
        let path = Some(file.path().to_str().unwrap().to_owned());
        assert_eq!(count(&given(&[]), None), Ok(None));
        assert_eq!(count(&given(&[]), Some("")), Ok(None));
        assert_eq!(count(&given(&[]), Some(&format!("{ONE}, {TWO},"))), Ok(Some(2)));
        assert_eq!(count(&given(&[ONE]), Some(&format!("{ONE},{TWO}"))), Ok(Some(1)));
        let both = ServeFlags { api_key_file: path.clone(), ..given(&[ONE]) };
        assert_eq!(count(&both, None), Ok(Some(2)));
        let twice = ServeFlags { api_key_file: path, ..given(&[TWO]) };
        assert!(count(&twice, None).unwrap_err().contains("line 3"), "{:?}", count(&twice, None));
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
            let error = count(&flags, variable).unwrap_err();
            assert!(error.starts_with(place), "{error}");
            assert!(!error.contains("tooshort") && !error.contains(ONE), "{error}");
        }
    }

    #[test]
    fn a_file_without_keys_or_no_file_locks_nobody_in() {
        let empty = tempfile::NamedTempFile::new().unwrap();
        for (path, part) in [(empty.path().to_str().unwrap(), "no key"), ("/nowhere/keys", "/nowhere/keys")] {
            let flags = ServeFlags { api_key_file: Some(path.to_owned()), ..ServeFlags::default() };
            let error = count(&flags, None).unwrap_err();
            assert!(error.starts_with("--api-key-file ") && error.contains(part), "{error}");
        }
    }
}
