//! `docs/configuration.md`, made from the table of settings, so that it cannot say what the code does not do.
//! `webhook-server configuration` prints it, and a test holds the committed page against it.

use std::fmt::Write as _;

use super::settings::{DEMO, HEALTHCHECK, MIGRATION, RECEIVER, SERVE};
use super::spec::{Shape, Spec};

const BEGINNING: &str = "\
# Configuration of the server

<!-- Made from the code: `UPDATE=1 cargo test -p webhook-server --test server the_committed_page_of_settings` writes it
     anew. -->

A setting can be given in four places. The first that has it wins, with all of it: lists are not added up.

1. A flag: `--allow-cidr 10.0.0.0/8`.
2. A variable of the environment: `WEBHOOK_ALLOW_CIDRS=10.0.0.0/8,fd00::/8`. An empty one counts as not set.
3. The same variable in a file `.env` in the working directory, written as in a shell, except that nothing is replaced: a `$` is
   a character. Of two lines with one name the last holds. Other programs' variables are left alone.
4. A key in the TOML file that `--config` or `WEBHOOK_CONFIG` names: `allow_cidr = [\"10.0.0.0/8\", \"fd00::/8\"]`. Keys are
   the flags' names with underscores, lists are arrays. A key that is no setting is an error.

`webhook-server check-config`, with the flags and in the place of the server, prints what is in force and where each value
came from, without secrets. A value that is not accepted stops it, and the server, with exit code 2 and one line that
names the flag, the variable or key and the file if it came from one, the value unless it may be secret, and what is
accepted.

Durations are written `250ms`, `10s`, `5m`, `72h`, `30d` or `1h30m`; sizes `512`, `64KiB`, `1MiB`.
";

const KEYS: &str = "\
## Keys

`--api-key` and `--api-key-file` are one setting: keys of both are taken from the strongest source that has either. With
none the server listens on loopback only. Keep keys out of arguments, which other users of the machine can read: put them
into a variable, or into a file that only the server can read.
";

const LOGS: &str = "\
## Logs

Log lines go to stderr, with `--log-format json` as one object a line; the one line that says where the server listens goes
to stdout, whatever the filter. No line holds a payload, a secret, a key, a header's value or the password of a URL, not
even at `trace`.
";

const FILE: &str = "\
## A file

```toml
# /etc/webhook-server/config.toml
listen = \"0.0.0.0:8080\"
database_url = \"postgres://webhooks@db.example/webhooks\"
api_key_file = \"/etc/webhook-server/keys\"
allow_cidr = [\"10.20.0.0/16\"]
https_only = true
concurrency = 2048
retention = \"7d\"
log_format = \"json\"
```
";

/// The page.
pub(crate) fn page() -> String {
    let mut page = BEGINNING.to_owned();
    page.push_str("\n## Settings\n\n");
    page.push_str("Of `webhook-server`, `webhook-server serve` and `webhook-server check-config`.\n\n");
    page.push_str("| flag | environment | default | meaning |\n|---|---|---|---|\n");
    for spec in SERVE.iter().filter(|spec| spec.unbuilt.is_none()) {
        let variable = spec.variable.map_or_else(|| "–".to_owned(), |name| code(name, spec));
        let _ = writeln!(page, "| {} | {variable} | {} | {} |", flag(spec), default(spec), about(spec));
    }
    page.push_str("\n## Refused until they are built\n\n");
    page.push_str(
        "Whoever sets one of these believes in what it does, so a server that does not do it does not start.\n\n",
    );
    page.push_str("| flag | environment | would do | why it is refused |\n|---|---|---|---|\n");
    for (spec, why) in SERVE.iter().filter_map(|spec| Some((spec, spec.unbuilt?))) {
        let variable = spec.variable.map_or_else(|| "–".to_owned(), |name| code(name, spec));
        let _ = writeln!(page, "| {} | {variable} | {} | {why} |", flag(spec), about(spec));
    }
    let _ = write!(page, "\n{KEYS}\n{LOGS}\n{FILE}");
    for (command, what, specs) in [
        ("migrate", "Brings the schema up to date, or moves the jobs to another kind of queue.", MIGRATION),
        (
            "healthcheck",
            "Asks the server that listens where `--listen` says, for a container's health check: exit code 0 and a line \
             on stdout when it answers 200, else 1 and a line on stderr. Of a server that listens on every address it \
             asks the loopback one.",
            HEALTHCHECK,
        ),
        ("listen", "Runs a receiver to try things with.", RECEIVER),
        ("demo", "Runs the service with sample events and receivers that misbehave.", DEMO),
    ] {
        let _ = write!(page, "\n## `webhook-server {command}`\n\n{what}\n\n");
        let shared: Vec<String> =
            specs.iter().filter(|spec| spec.variable.is_some()).map(|spec| flag(spec)).collect();
        if !shared.is_empty() {
            let _ = write!(page, "Takes {} as above, from the same sources.\n\n", shared.join(", "));
        }
        page.push_str("| flag | default | meaning |\n|---|---|---|\n");
        for spec in specs.iter().filter(|spec| spec.variable.is_none()) {
            let _ = writeln!(page, "| {} | {} | {} |", flag(spec), default(spec), about(spec));
        }
    }
    page
}

fn flag(spec: &Spec) -> String {
    match spec.shape {
        Shape::List => format!("`--{}` (repeatable)", spec.name),
        Shape::One | Shape::Switch => format!("`--{}`", spec.name),
    }
}

fn code(name: &str, spec: &Spec) -> String {
    match spec.shape {
        Shape::List => format!("`{name}` (comma separated)"),
        Shape::One | Shape::Switch => format!("`{name}`"),
    }
}

fn default(spec: &Spec) -> String {
    spec.default.map_or_else(|| "none".to_owned(), |text| format!("`{text}`"))
}

fn about(spec: &Spec) -> String {
    spec.about.replace('|', "\\|")
}
