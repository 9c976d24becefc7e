//! The command line: which words there are. What their values mean is decided in [`config`](crate::config),
//! where the values of the environment come in too, so that a value is judged alike wherever it was written.
//!
//! Every mistake is one line on stderr and exit code 2; clap's own are brought into that form here.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::config::{DemoConfig, ListenConfig, MigrateConfig, ServeConfig, environment};
use crate::report::Failure;
use crate::{demo, listen, migrate, serve};

/// Reliable webhook delivery: takes events over HTTP and delivers them to subscriptions, signed, with retries.
#[derive(Debug, Parser)]
#[command(
    name = "webhook-server",
    version,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_help = "Without a command it serves. Flags win over the environment."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Words>,
    #[command(flatten)]
    serve: ServeFlags,
}

#[derive(Debug, Subcommand)]
enum Words {
    /// Run the service: API and workers in one process (the default)
    Serve(Box<ServeFlags>),
    /// Run the service with sample events and receivers that misbehave, to look at
    Demo(DemoFlags),
    /// Bring the database's schema up to date, and end
    Migrate(MigrateFlags),
    /// Run a receiver that verifies signatures and prints what it gets
    Listen(ListenFlags),
    /// Print the OpenAPI document of the API
    Openapi,
}

/// The values of `serve`, as they were written.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ServeFlags {
    #[arg(
        long,
        value_name = "ADDRESS",
        help = "Where the API listens; without API keys loopback only [env: WEBHOOK_LISTEN] [default: 127.0.0.1:8080]"
    )]
    pub(crate) listen: Option<String>,
    #[arg(
        long,
        value_name = "URL",
        help = "sqlite://PATH, postgres://USER:PASSWORD@HOST/DATABASE or memory: (gone when the process ends) [env: DATABASE_URL] [default: sqlite://webhooks.db]"
    )]
    pub(crate) database_url: Option<String>,
    #[arg(
        long,
        value_name = "URL",
        help = "Redis as the queue of a PostgreSQL database: redis://, rediss://, redis-cluster:// or redis-sentinel://; without it the database is the queue [env: REDIS_URL]"
    )]
    pub(crate) redis_url: Option<String>,
    #[arg(
        long,
        value_name = "ROLE",
        help = "all, api (takes events and delivers none) or worker (delivers, and answers probes alone); on PostgreSQL several of each can share a database [env: WEBHOOK_ROLE] [default: all]"
    )]
    pub(crate) role: Option<String>,
    #[arg(
        long,
        value_name = "KEY",
        help = "A bearer key of 16 characters or more: KEY for an admin, TENANT:KEY for one tenant; repeatable. Other users of this machine can read arguments, not --api-key-file [env: WEBHOOK_API_KEYS, comma separated]"
    )]
    pub(crate) api_key: Vec<String>,
    #[arg(long, value_name = "PATH", help = "A file with such keys, one a line")]
    pub(crate) api_key_file: Option<String>,
    #[arg(
        long,
        value_name = "CIDR",
        help = "A range of addresses let through the private-network guard, such as 10.0.0.0/8; repeatable [env: WEBHOOK_ALLOW_CIDRS, comma separated]"
    )]
    pub(crate) allow_cidr: Vec<String>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help = "Refuse http:// targets [env: WEBHOOK_HTTPS_ONLY] [default: false]")]
    pub(crate) https_only: Option<String>,
    #[arg(
        long,
        value_name = "N",
        help = "Attempts in flight in this process [env: WEBHOOK_CONCURRENCY] [default: 512]"
    )]
    pub(crate) concurrency: Option<String>,
    #[arg(
        long,
        value_name = "N",
        help = "Attempts in flight per subscription that sets no limit of its own [env: WEBHOOK_MAX_IN_FLIGHT] [default: 64]"
    )]
    pub(crate) max_in_flight: Option<String>,
    #[arg(
        long,
        value_name = "DURATION",
        help = "Deadline of one attempt, from dialling to the end of the answer [env: WEBHOOK_TIMEOUT] [default: 15s]"
    )]
    pub(crate) timeout: Option<String>,
    #[arg(
        long,
        value_name = "POLICY",
        help = "standard, schedule:10s,30s,1m or exponential:10s,x2,max=1h,attempts=7,jitter=0.2 [env: WEBHOOK_RETRY] [default: standard]"
    )]
    pub(crate) retry: Option<String>,
    #[arg(
        long,
        value_name = "DURATION",
        help = "How long a crashed worker's deliveries wait [env: WEBHOOK_LEASE] [default: 30s]"
    )]
    pub(crate) lease: Option<String>,
    #[arg(
        long,
        value_name = "DURATION",
        help = "Finished events are deleted after this; 0 keeps them [env: WEBHOOK_RETENTION] [default: 72h]"
    )]
    pub(crate) retention: Option<String>,
    #[arg(
        long,
        value_name = "DURATION",
        help = "What is unfinished for longer is exhausted as expired; 0 never [env: WEBHOOK_MAX_AGE] [default: 30d]"
    )]
    pub(crate) max_age: Option<String>,
    #[arg(
        long,
        value_name = "SIZE",
        help = "Largest payload of an event [env: WEBHOOK_MAX_PAYLOAD] [default: 1MiB]"
    )]
    pub(crate) max_payload: Option<String>,
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help = "Bring the schema up to date at start; when off and behind, refuse to start [env: WEBHOOK_MIGRATE] [default: true]")]
    pub(crate) migrate: Option<String>,
    #[arg(long, value_name = "FORMAT", help = "pretty or json [env: WEBHOOK_LOG_FORMAT] [default: pretty]")]
    pub(crate) log_format: Option<String>,
    #[arg(
        long,
        value_name = "FILTER",
        help = "A level, or levels by target such as info,webhook_core=debug [env: WEBHOOK_LOG] [default: info]"
    )]
    pub(crate) log: Option<String>,
    #[arg(
        long,
        value_name = "DURATION",
        help = "On SIGTERM and SIGINT, time to finish what is in flight [env: WEBHOOK_SHUTDOWN_GRACE] [default: 30s]"
    )]
    pub(crate) shutdown_grace: Option<String>,
}

/// The values of `migrate`, as they were written.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct MigrateFlags {
    #[arg(
        long,
        value_name = "URL",
        help = "sqlite://PATH or postgres://USER:PASSWORD@HOST/DATABASE [env: DATABASE_URL] [default: sqlite://webhooks.db]"
    )]
    pub(crate) database_url: Option<String>,
    #[arg(
        long,
        value_name = "KIND",
        help = "database or redis: move all jobs to that kind of queue, every node stopped"
    )]
    pub(crate) queue: Option<String>,
    #[arg(long, value_name = "FORMAT", help = "pretty or json [env: WEBHOOK_LOG_FORMAT] [default: pretty]")]
    pub(crate) log_format: Option<String>,
    #[arg(
        long,
        value_name = "FILTER",
        help = "A level, or levels by target [env: WEBHOOK_LOG] [default: info]"
    )]
    pub(crate) log: Option<String>,
}

/// The values of `demo`, as they were written.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct DemoFlags {
    #[arg(long, value_name = "N", help = "Stop after so many seconds; without it, at Ctrl-C")]
    pub(crate) seconds: Option<String>,
}

/// The values of `listen`, as they were written.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ListenFlags {
    #[arg(long, value_name = "PORT", help = "Port on 127.0.0.1; 0 takes a free one [default: 9000]")]
    pub(crate) port: Option<String>,
    #[arg(
        long,
        value_name = "SECRET",
        help = "The subscription's signing secret; what it did not sign is answered 401. Without it nothing is verified"
    )]
    pub(crate) secret: Option<String>,
    #[arg(long, value_name = "STATUS", help = "Status of the answers [default: 200]")]
    pub(crate) status: Option<String>,
    #[arg(
        long,
        value_name = "N",
        help = "Answer 500 to the first N requests, all paths and events counted together [default: 0]"
    )]
    pub(crate) fail_first: Option<String>,
    #[arg(long, value_name = "MS", help = "Wait so long before each answer [default: 0]")]
    pub(crate) delay_ms: Option<String>,
}

/// What to do, with its values checked.
#[derive(Debug)]
pub(crate) enum Command {
    Serve(Box<ServeConfig>),
    Migrate(Box<MigrateConfig>),
    Demo(DemoConfig),
    Listen(ListenConfig),
    Openapi,
}

impl Command {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self {
            Self::Serve(config) => serve::run(&config),
            Self::Migrate(config) => migrate::run(*config),
            Self::Demo(config) => demo::run(config),
            Self::Listen(config) => listen::run(config),
            Self::Openapi => {
                print(&format!("{:#}\n", webhook_http_axum::openapi(crate::http::API)));
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

/// Reads the command line, and the environment for what it leaves out.
pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Command, Stop> {
    let cli = Cli::try_parse_from(words).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Stop::Shown(error.render().to_string()),
        _ => Stop::Failed(Failure::Usage(one_line(&error.render().to_string()))),
    })?;
    let command = match cli.command.unwrap_or(Words::Serve(Box::new(cli.serve))) {
        Words::Serve(flags) => {
            ServeConfig::read(&flags, &environment).map(|config| Command::Serve(Box::new(config)))
        }
        Words::Migrate(flags) => {
            MigrateConfig::read(&flags, &environment).map(|config| Command::Migrate(Box::new(config)))
        }
        Words::Demo(flags) => DemoConfig::read(&flags).map(Command::Demo),
        Words::Listen(flags) => ListenConfig::read(&flags).map(Command::Listen),
        Words::Openapi => Ok(Command::Openapi),
    };
    command.map_err(|error| Stop::Failed(Failure::Usage(error.to_string())))
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
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn an_unknown_flag_is_one_line_with_a_tip() {
        let error = Cli::try_parse_from(["webhook-server", "--time-out", "3s"]).unwrap_err();
        let line = one_line(&error.render().to_string());
        assert_eq!(
            line,
            "unexpected argument '--time-out' found; a similar argument exists: '--timeout'; see --help"
        );
    }

    #[test]
    fn a_switch_takes_a_value_in_both_spellings_or_none() {
        let flag = |words: &[&str]| {
            Cli::try_parse_from([&["webhook-server"], words].concat()).unwrap().serve.https_only
        };
        assert_eq!(flag(&["--https-only"]).as_deref(), Some("true"));
        assert_eq!(flag(&["--https-only=false"]).as_deref(), Some("false"));
        assert_eq!(flag(&["--https-only", "false"]).as_deref(), Some("false"));
    }
}
