//! The law within core: model and decisions ← traits ← engine. A lower layer never names a higher one.
//!
//! Read off the paths in the source (`crate::engine::…`, `use crate::{engine, …}`), tests excepted: a test of a
//! decision may drive it through an engine. `lib.rs` only re-exports and may name all.

use super::Outcome;
use super::scan::{self, Code};
use crate::Failure;
use crate::workspace::Workspace;

const SOURCE: &str = "webhook-core/src/";

/// From the top: each layer may name itself and what is below it. Every other module of core is a decision.
const LAYERS: [&[&str]; 3] = [&["memory", "testing"], &["engine"], &["store", "queue", "deliver"]];

pub(crate) fn check(workspace: &Workspace) -> Result<Outcome, Failure> {
    let mut wrong = Vec::new();
    let mut seen = 0_usize;
    for path in workspace.files()? {
        let Some(module) = module_of(&path) else { continue };
        let Some(text) = workspace.text(&path)? else { continue };
        seen += 1;
        let code = scan::code(&text);
        wrong.extend(violations(&path, module, &code));
    }
    if seen == 0 {
        wrong.push(format!("{SOURCE} holds no module to check"));
    }
    Ok(Outcome::Checked { seen: format!("{seen} modules of core"), wrong })
}

fn module_of(path: &str) -> Option<&str> {
    let inner = path.strip_prefix(SOURCE)?.strip_suffix(".rs")?;
    let module = inner.split('/').next()?;
    let is_test = scan::is_test_file(path);
    (module != "lib" && !is_test).then_some(module)
}

fn layer(module: &str) -> usize {
    LAYERS.iter().position(|layer| layer.contains(&module)).unwrap_or(LAYERS.len())
}

fn violations(path: &str, module: &str, code: &Code) -> Vec<String> {
    let own = layer(module);
    let mut wrong = Vec::new();
    for (number, line) in code.lines.iter().enumerate().take(code.tests_from) {
        for (higher, names) in LAYERS.iter().enumerate().take(own) {
            // The memory backends implement the traits beside the engine and do not use it.
            for name in *names {
                if names_module(line, name) {
                    wrong.push(format!(
                        "{path}:{}: `{module}` must not know `crate::{name}` (layer {} above {})",
                        number + 1,
                        LAYERS.len() - higher,
                        LAYERS.len() - own
                    ));
                }
            }
        }
    }
    wrong
}

fn names_module(line: &str, module: &str) -> bool {
    line.match_indices("crate::").any(|(at, found)| {
        let rest = &line[at + found.len()..];
        let mut names = rest
            .strip_prefix('{')
            .map_or_else(|| vec![rest], |group| group.split(',').map(str::trim).collect());
        names.iter_mut().any(|name| {
            name.strip_prefix(module)
                .is_some_and(|after| !after.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(module: &str, text: &str) -> usize {
        violations("x.rs", module, &scan::code(text)).len()
    }

    #[test]
    fn a_decision_that_names_a_trait_or_the_engine_is_found() {
        assert_eq!(found("lifecycle", "use crate::store::Store;\nuse crate::engine::Webhooks;\n"), 2);
        assert_eq!(found("retry", "use crate::{model, queue};\n"), 1);
    }

    #[test]
    fn a_layer_may_name_what_is_below_it() {
        assert_eq!(found("engine", "use crate::{store, queue, model};\n"), 0);
        assert_eq!(found("store", "use crate::queue::JobQueue;\nuse crate::lifecycle;\n"), 0);
    }

    #[test]
    fn comments_and_tests_do_not_count() {
        assert_eq!(found("lane", "//! See [`crate::engine`].\n#[cfg(test)]\nuse crate::engine;\n"), 0);
    }
}
