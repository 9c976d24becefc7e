//! The commands of a Markdown page, and what it shows of their output.

use std::fmt::Write as _;

/// A block of code in the page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A line after `$ ` in a `console` block, with the lines that continue it, and what is shown below.
    Command { command: String, shown: String },
    /// A whole `sql` block.
    Sql(String),
}

/// What stands in a part of a page, in its order.
pub(crate) fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut language = "";
    for line in page.lines() {
        if let Some(fence) = line.strip_prefix("```") {
            language = if language.is_empty() { fence } else { "" };
            if language == "sql" {
                steps.push(Step::Sql(String::new()));
            }
            continue;
        }
        match (language, steps.last_mut()) {
            ("console", Some(Step::Command { command, shown })) if shown.is_empty() && is_open(command) => {
                if command.ends_with('\\') {
                    command.pop();
                }
                command.push_str(line.trim_start());
            }
            ("console", last) => match (line.strip_prefix("$ "), last) {
                (Some(command), _) => {
                    steps.push(Step::Command { command: command.to_owned(), shown: String::new() });
                }
                (None, Some(Step::Command { shown, .. })) => writeln!(shown, "{line}").unwrap(),
                (None, _) => panic!("an answer without a command: {line}"),
            },
            ("sql", Some(Step::Sql(sql))) => writeln!(sql, "{line}").unwrap(),
            _ => {}
        }
    }
    steps
}

/// Whether a command goes on in the next line: it says so, or a quote is open.
fn is_open(command: &str) -> bool {
    command.ends_with('\\') || command.matches('\'').count() % 2 == 1
}

#[test]
fn a_command_is_read_with_the_lines_that_continue_it() {
    let page = "text\n```console\n$ a \\\n    b '{\n  1}'\nout\n$ c\n```\n```json\n{}\n```\n```sql\nSELECT 1;\n```\n";
    let command = |command: &str, shown: &str| Step::Command { command: command.into(), shown: shown.into() };
    assert_eq!(
        steps(page),
        [command("a b '{1}'", "out\n"), command("c", ""), Step::Sql("SELECT 1;\n".into())]
    );
}
