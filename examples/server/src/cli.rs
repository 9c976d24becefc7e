//! The command line: which words there are. Flags, with their help, are made from the table of settings; what their
//! values mean is decided in [`config`](crate::config), where the values of other sources come in too, so that a
//! value is judged alike wherever it was written.
//!
//! Every mistake is one line on stderr and exit code 2; clap's own are brought into that form here.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches};

use crate::config::settings::{DEMO, HEALTHCHECK, MIGRATION, RECEIVER, SERVE};
use crate::config::spec::{Shape, Spec};
use crate::config::{
    ConfigError, DemoConfig, Flags, HealthcheckConfig, ListenConfig, MigrateConfig, ServeConfig, Sources,
    page, show,
};
use crate::report::Failure;
use crate::{demo, healthcheck, listen, migrate, serve, version};

/// A command, what it does, and its flags.
struct Word {
    name: &'static str,
    about: &'static str,
    flags: &'static [&'static Spec],
    read: fn(Flags) -> Result<Command, ConfigError>,
}

static WORDS: &[Word] = &[
    Word {
        name: "serve",
        about: "Run the service: API and workers in one process (the default)",
        flags: SERVE,
        read: |flags| {
            let config = ServeConfig::read(&Sources::of_process(flags)?)?;
            Ok(Command::Serve(Box::new(config)))
        },
    },
    Word {
        name: "demo",
        about: "Run the service with sample events and receivers that misbehave, to look at",
        flags: DEMO,
        read: |flags| Ok(Command::Demo(DemoConfig::read(&Sources::of_flags(flags))?)),
    },
    Word {
        name: "listen",
        about: "Run a receiver that verifies signatures and prints what it gets",
        flags: RECEIVER,
        read: |flags| Ok(Command::Listen(ListenConfig::read(&Sources::of_flags(flags))?)),
    },
    Word {
        name: "migrate",
        about: "Bring the database's schema up to date, and end",
        flags: MIGRATION,
        read: |flags| {
            let config = MigrateConfig::read(&Sources::of_process(flags)?)?;
            Ok(Command::Migrate(Box::new(config)))
        },
    },
    Word {
        name: "check-config",
        about: "Print what is in force and where each value came from, without secrets",
        flags: SERVE,
        read: |flags| {
            let sources = Sources::of_process(flags)?;
            ServeConfig::read(&sources)?;
            Ok(Command::Print(show::in_force(&sources)?))
        },
    },
    Word {
        name: "healthcheck",
        about: "Ask the running server whether it is there: exit code 0 or 1",
        flags: HEALTHCHECK,
        read: |flags| {
            let config = HealthcheckConfig::read(&Sources::of_process(flags)?)?;
            Ok(Command::Healthcheck(config))
        },
    },
    Word {
        name: "openapi",
        about: "Print the OpenAPI document of the API",
        flags: &[],
        read: |_| Ok(Command::Print(format!("{:#}\n", webhook_http_axum::openapi(crate::http::API)))),
    },
    Word {
        name: PAGE,
        about: "Print docs/configuration.md",
        flags: &[],
        read: |_| Ok(Command::Print(page::page())),
    },
];

/// For whoever works on the server, and left out of the help.
const PAGE: &str = "configuration";

/// What to do, with its values checked.
#[derive(Debug)]
pub(crate) enum Command {
    Serve(Box<ServeConfig>),
    Migrate(Box<MigrateConfig>),
    Demo(DemoConfig),
    Listen(ListenConfig),
    Healthcheck(HealthcheckConfig),
    Print(String),
}

impl Command {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Serve(config) => serve::run(&config),
            Self::Migrate(config) => migrate::run(*config),
            Self::Demo(config) => demo::run(config),
            Self::Listen(config) => listen::run(config),
            Self::Healthcheck(config) => healthcheck::run(config),
            Self::Print(text) => {
                print(&text);
                Ok(())
            }
        }
    }
}

/// Why there is no command to run.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Help or version was asked for.
    Shown(String),
    /// A mistake.
    Failed(Failure),
}

impl Stop {
    pub(crate) fn print(&self) -> ExitCode {
        match self {
            Self::Shown(text) => {
                print(text);
                ExitCode::SUCCESS
            }
            Self::Failed(failure) => failure.print(),
        }
    }
}

/// Behind `| head` the rest is not wanted.
fn print(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
}

/// Reads the command line, and the process's surroundings for what it leaves out.
pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Command, Stop> {
    let words: Vec<OsString> = words.collect();
    let matches = definition().try_get_matches_from(&words).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Stop::Shown(error.render().to_string()),
        _ if is_stray(&error) => Stop::Failed(Failure::Usage(stray(&words, &error))),
        _ => Stop::Failed(Failure::Usage(one_line(&error.render().to_string()))),
    })?;
    let (name, matches) = matches.subcommand().unwrap_or((WORDS[0].name, &matches));
    // Clap lets no other word pass.
    let word = WORDS.iter().find(|word| word.name == name).unwrap_or(&WORDS[0]);
    (word.read)(given(word.flags, matches)).map_err(|error| Stop::Failed(Failure::Usage(error.to_string())))
}

fn definition() -> clap::Command {
    let root = clap::Command::new("webhook-server")
        .about("Reliable webhook delivery: takes events over HTTP and delivers them to subscriptions, signed, with retries.")
        .version(version::LONG)
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
        .after_help("Without a command it serves. Flags win over the environment, that over .env, and that over --config.")
        .args(WORDS[0].flags.iter().map(|spec| argument(spec)));
    WORDS.iter().fold(root, |root, word| {
        let command = clap::Command::new(word.name).about(word.about).hide(word.name == PAGE);
        root.subcommand(command.args(word.flags.iter().map(|spec| argument(spec))))
    })
}

fn argument(spec: &'static Spec) -> Arg {
    let argument = Arg::new(spec.name)
        .long(spec.name)
        .value_name(spec.value)
        .help(help(spec))
        // Known, so that its refusal can say why.
        .hide(spec.unbuilt.is_some());
    match spec.shape {
        Shape::One => argument.action(ArgAction::Set),
        Shape::Switch => argument.action(ArgAction::Set).num_args(0..=1).default_missing_value("true"),
        Shape::List => argument.action(ArgAction::Append),
    }
}

fn help(spec: &Spec) -> String {
    let mut help = spec.about.to_owned();
    let is_list = spec.shape == Shape::List;
    if is_list {
        help.push_str("; repeatable");
    }
    if let Some(name) = spec.variable {
        let many = if is_list { ", comma separated" } else { "" };
        help.push_str(&format!(" [env: {name}{many}]"));
    }
    if let Some(default) = spec.default {
        help.push_str(&format!(" [default: {default}]"));
    }
    help
}

/// What the command line says of these settings.
fn given(flags: &[&'static Spec], matches: &ArgMatches) -> Flags {
    let texts = |spec: &&'static Spec| {
        let texts: Vec<String> = matches.get_many(spec.name)?.cloned().collect();
        Some((spec.name, texts))
    };
    flags.iter().filter_map(texts).collect()
}

/// Whether the mistake is a word that is no flag. It may be a secret, such as the second key behind one `--api-key`.
fn is_stray(error: &clap::Error) -> bool {
    let word = match error.kind() {
        ErrorKind::UnknownArgument => error.get(ContextKind::InvalidArg),
        // Behind flags of the default command, any word is taken for another command first.
        ErrorKind::InvalidSubcommand | ErrorKind::ArgumentConflict => {
            error.get(ContextKind::InvalidSubcommand)
        }
        _ => None,
    };
    let is_known = |name: &str| name.starts_with('-') || WORDS.iter().any(|word| word.name == name);
    matches!(word, Some(ContextValue::String(word)) if !is_known(word))
}

/// Names a stray word by its place, and the command that it may have been meant for.
fn stray(words: &[OsString], error: &clap::Error) -> String {
    // The place is where clap begins to complain: the same word may stand earlier, as a value.
    let is_end =
        |end: &usize| definition().try_get_matches_from(&words[..*end]).is_err_and(|error| is_stray(&error));
    let place = (2..=words.len()).find(is_end).unwrap_or(words.len()) - 1;
    let mut line = format!("word {place} of the command line is no flag and no command");
    if let Some(ContextValue::Strings(commands)) = error.get(ContextKind::SuggestedSubcommand) {
        let commands: Vec<String> = commands.iter().map(|command| format!("'{command}'")).collect();
        line.push_str("; a similar command exists: ");
        line.push_str(&commands.join(", "));
    }
    line.push_str("; see --help");
    line
}

/// Clap explains over several paragraphs: the first says what is wrong, a tip may say what was meant.
fn one_line(rendered: &str) -> String {
    let mut lines = rendered.lines().map(str::trim);
    let problem: Vec<&str> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    let problem = problem.join(" ");
    let mut line = problem.strip_prefix("error: ").unwrap_or(&problem).to_owned();
    if let Some(tip) = lines.find_map(|line| line.strip_prefix("tip: ")) {
        line.push_str("; ");
        line.push_str(tip);
    }
    line.push_str("; see --help");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds_together() {
        definition().debug_assert();
    }

    #[test]
    fn an_unknown_flag_is_one_line_with_a_tip() {
        let error = definition().try_get_matches_from(["webhook-server", "--time-out", "3s"]).unwrap_err();
        let line = one_line(&error.render().to_string());
        assert_eq!(
            line,
            "unexpected argument '--time-out' found; a similar argument exists: '--timeout'; see --help"
        );
    }

    #[test]
    fn a_switch_takes_a_value_in_both_spellings_or_none() {
        let flag = |words: &[&str]| {
            let matches = definition().try_get_matches_from([&["webhook-server"], words].concat()).unwrap();
            given(SERVE, &matches).remove("https-only").map(|texts| texts.concat())
        };
        assert_eq!(flag(&[]), None);
        assert_eq!(flag(&["--https-only"]).as_deref(), Some("true"));
        assert_eq!(flag(&["--https-only=false"]).as_deref(), Some("false"));
        assert_eq!(flag(&["--https-only", "false"]).as_deref(), Some("false"));
    }
}
