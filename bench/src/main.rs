//! Measures the bundled server from outside: this process sends the events and receives the deliveries, the server is
//! a process of its own. `cargo xtask bench` builds both in release and starts this.
//!
//! What it owes: figures that can be trusted and repeated. The raw limit of the machine (load generator straight to
//! receiver, the same payloads, the same concurrency; on bare sockets and by an ordinary HTTP stack) is measured in every
//! round, since machines vary from hour to hour and only ratios within a round compare. Every delivery is accounted for: one that is missing, twice, or not
//! byte for byte what was published makes the run a failure, and so does a server that does not stop cleanly.
//! What it must never do: cost so much itself that it measures itself. So HTTP is spoken over bare sockets.
//!
//! | module | owes |
//! |---|---|
//! | [`arguments`] | the command line, bounded |
//! | [`payload`] | 450 bytes that carry their number and time |
//! | [`http1`] | as little HTTP/1.1 as client and receiver need |
//! | [`tally`] | what arrived, how often, how late |
//! | [`receiver`] | the target of all subscriptions |
//! | [`load`] | requests at full speed or at a pace |
//! | [`ordinary`] | the raw exchange with an ordinary HTTP stack, to compare with |
//! | [`process`] | one process of the server: start, CPU, memory, stop |
//! | [`server`] | the server with its backends, in one process or several |
//! | [`api`] | the few calls of the server's API that a run needs |
//! | [`setting`] | what is measured, and one run of it |
//! | [`report`] | medians and the tables |
//! | [`isolation`] | what a healthy subscription feels of bad neighbours |
//! | [`rebuild`] | how long until a queue that lost everything knows all jobs again |

#![allow(clippy::print_stdout, reason = "a command line tool talks on stdout")]

mod api;
mod arguments;
mod http1;
mod isolation;
mod load;
mod ordinary;
mod payload;
mod process;
mod rebuild;
mod receiver;
mod report;
mod server;
mod setting;
mod tally;

use std::process::ExitCode;

use crate::arguments::{Arguments, Parsed};
use crate::report::Report;
use crate::setting::Setting;

/// Why a run did not count: a sentence for a person.
type Failure = String;

fn main() -> ExitCode {
    let arguments = match arguments::parse(std::env::args().skip(1)) {
        Ok(Parsed::Run(arguments)) => arguments,
        Ok(Parsed::Help(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("webhook-bench: {message}");
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("webhook-bench: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Some(jobs) = arguments.rebuild {
        return runtime.block_on(rebuild::measure(jobs, &arguments));
    }
    if arguments.isolation {
        return runtime.block_on(isolation::measure(&arguments));
    }
    runtime.block_on(measure(&arguments))
}

/// Rounds of the raw limit and then every setting, so that what is compared was measured within a minute or so.
async fn measure(arguments: &Arguments) -> ExitCode {
    let mut report = Report::new(arguments);
    let mut failed = false;
    for round in 1..=arguments.runs {
        for &setting in Setting::LIMITS.iter().chain(&arguments.settings) {
            eprint!("round {round} of {}, {} … ", arguments.runs, setting.name());
            match setting::run(setting, arguments).await {
                Ok(measured) => {
                    eprintln!("{}", measured.in_short());
                    failed |= !measured.is_clean();
                    report.add(round, setting, measured);
                }
                Err(failure) => {
                    eprintln!("FAILED: {failure}");
                    failed = true;
                    // Without the limits of its round nothing can be compared.
                    if Setting::LIMITS.contains(&setting) {
                        break;
                    }
                }
            }
        }
    }
    print!("{report}");
    if failed {
        eprintln!("webhook-bench: FAILED, see above");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
