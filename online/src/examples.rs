//! The payloads of `@octokit/webhooks-examples`, byte for byte as the package has them: their own white space, order
//! of keys and spelling of numbers are what a re-encoding would lose.

use std::path::Path;

use serde_json::value::RawValue;

use crate::Failure;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Example {
    /// Which one, for a message.
    pub(crate) place: String,
    /// GitHub's name of the event: what it sends as `X-GitHub-Event`.
    pub(crate) event: String,
    pub(crate) payload: Vec<u8>,
}

/// Reads `*/index.json` below the package's folder.
pub(crate) fn read(package: &Path) -> Result<Vec<Example>, Failure> {
    let cannot = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", package.display());
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(package).map_err(|error| cannot(&error))? {
        folders.push(entry.map_err(|error| cannot(&error))?.path());
    }
    folders.sort();
    let mut examples = Vec::new();
    for index in folders.iter().map(|folder| folder.join("index.json")).filter(|index| index.is_file()) {
        let text = std::fs::read_to_string(&index).map_err(|error| cannot(&error))?;
        let edition = index.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        examples.extend(parse(&edition, &text)?);
    }
    if examples.is_empty() {
        return Err(format!("{} holds no examples; has the package changed?", package.display()));
    }
    Ok(examples)
}

fn parse(edition: &str, text: &str) -> Result<Vec<Example>, Failure> {
    let broken = |error: serde_json::Error| format!("cannot read the examples of {edition}: {error}");
    let events: Vec<serde_json::Map<String, serde_json::Value>> =
        serde_json::from_str(text).map_err(broken)?;
    // Once more with the bytes kept: the first reading gives the names, this one the payloads.
    let raw: Vec<std::collections::HashMap<String, &RawValue>> =
        serde_json::from_str(text).map_err(broken)?;
    let mut examples = Vec::new();
    for (event, raw) in events.iter().zip(&raw) {
        let name = event.get("name").and_then(serde_json::Value::as_str);
        let name = name.ok_or_else(|| format!("an event of {edition} has no name"))?;
        let list = raw.get("examples").map_or("[]", |list| list.get());
        let payloads: Vec<&RawValue> = serde_json::from_str(list).map_err(broken)?;
        for (at, payload) in payloads.iter().enumerate() {
            examples.push(Example {
                place: format!("{edition}/{name}[{at}]"),
                event: name.to_owned(),
                payload: payload.get().as_bytes().to_vec(),
            });
        }
    }
    Ok(examples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_keeps_its_own_bytes() {
        let text =
            r#"[{"name":"push","examples":[{"b": 1.0,  "a":"\u00e9"}, {}]}, {"name":"ping","examples":[]}]"#;
        let examples = parse("x", text).expect("it is well-formed");
        assert_eq!(examples.len(), 2);
        assert_eq!(examples[0].payload, br#"{"b": 1.0,  "a":"\u00e9"}"#);
        assert_eq!((examples[0].event.as_str(), examples[1].place.as_str()), ("push", "x/push[1]"));
    }
}
