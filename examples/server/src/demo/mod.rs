//! `webhook-server demo`: the service with receivers that misbehave and a stream of sample events, to look at.
//!
//! It is the real thing: a database file (in a temporary directory), the HTTP API on a port, signed requests over
//! sockets. Only three settings differ from a server that is started without any: targets on 127.0.0.1 are let
//! through, retries come after 1, 2, 4 and 8 seconds, and an attempt may take 2 seconds, so that within twenty
//! seconds everything that can happen to a delivery has been seen.
//!
//! - [`samples`] makes the events, [`receivers`] takes them, each receiver in its own way.
//! - [`account`] tells what became of every attempt, from the same history that the API shows.

mod account;
mod receivers;
mod samples;

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::interval;
use webhook_core::model::Tenant;
use webhook_core::{SubscriptionDraft, Webhooks};

use self::account::Account;
use self::receivers::Receiver;
use self::samples::Samples;
use crate::config::{DemoConfig, Flags, LogFormat, ServeConfig, Sources};
use crate::report::Failure;
use crate::service::{Service, block_on};
use crate::signals::{Signals, stop_requested};
use crate::terminal::{Colour, Screen};
use crate::{logging, version};

/// The port that a server without settings listens on; when it is taken, any other.
const PORT: u16 = 8080;

/// A new event this often.
const PUBLISH: Duration = Duration::from_millis(400);
/// How often the history is read.
const LOOK: Duration = Duration::from_millis(100);
/// How often a summary is printed.
const SUMMARY: Duration = Duration::from_secs(5);
/// What is in flight at the end may finish within this.
const GRACE: Duration = Duration::from_secs(3);

/// Runs until Ctrl-C, or for as long as was asked.
///
/// # Errors
/// When something that is needed is not there.
pub(crate) fn run(config: DemoConfig) -> Result<(), Failure> {
    block_on(demo(config))
}

async fn demo(config: DemoConfig) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(Failure::start)?;
    let directory = tempfile::Builder::new()
        .prefix("webhook-demo-")
        .tempdir()
        .map_err(|error| Failure::Start(format!("cannot make a temporary directory: {error}")))?;
    let database = format!("sqlite://{}", directory.path().join("demo.db").display());
    let settings = [
        ("database-url", database.as_str()),
        ("allow-cidr", "127.0.0.1/32"),
        ("retry", "schedule:1s,2s,4s,8s"),
        ("timeout", "2s"),
        ("log", "warn"),
    ];
    let settings: Flags = settings.into_iter().map(|(name, text)| (name, vec![text.to_owned()])).collect();
    let settings = ServeConfig::read(&Sources::of_flags(settings)).map_err(Failure::start)?;
    logging::init(LogFormat::Pretty, settings.log.clone());

    let service = Service::start_on(free_port().await?, &settings).await?;
    let screen = Screen::stdout();
    let mut background = JoinSet::new();
    let receivers = receivers::start(&mut background, screen).await?;
    let mut account = Account::new(screen);
    for receiver in &receivers {
        account.knows(subscribe(&service.webhooks, receiver).await?, receiver.name);
    }
    let mut printed = introduce(screen, &service, &receivers);

    let ended = async {
        match config.duration {
            Some(duration) => tokio::time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(ended);
    let mut samples = Samples::default();
    let (mut publish, mut look, mut summary) = (interval(PUBLISH), interval(LOOK), interval(SUMMARY));
    summary.reset();
    // Behind `| head` nobody reads any more, and the demo ends.
    while printed.is_ok() {
        tokio::select! {
            () = stop_requested(&mut signals) => break,
            () = &mut ended => break,
            _ = publish.tick() => account.published(service.webhooks.publish(samples.next_event()).await),
            _ = look.tick() => printed = account.look(service.history.as_ref()).await,
            _ = summary.tick() => printed = account.summary(&receivers),
        }
    }

    let history = std::sync::Arc::clone(&service.history);
    service.stop(GRACE).await;
    background.shutdown().await;
    if printed.is_ok() {
        // With nobody to read it, a total is not missed.
        let _ = account.look(history.as_ref()).await.and_then(|()| account.totals(&receivers));
    }
    Ok(())
}

async fn free_port() -> Result<TcpListener, Failure> {
    if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).await {
        return Ok(listener);
    }
    let any = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    any.map_err(|error| Failure::Start(format!("cannot listen on 127.0.0.1: {error}")))
}

async fn subscribe(
    webhooks: &Webhooks,
    receiver: &Receiver,
) -> Result<webhook_core::id::SubscriptionId, Failure> {
    let draft = SubscriptionDraft {
        description: Some(format!("{}: {}", receiver.name, receiver.habit)),
        event_types: vec![receiver.takes.to_owned()],
        secret: Some(receiver.secret.clone()),
        ..SubscriptionDraft::to(&receiver.url)
    };
    let stored = webhooks.subscriptions().create(&Tenant::default(), &draft).await.map_err(Failure::start)?;
    Ok(stored.id)
}

fn introduce(screen: Screen, service: &Service, receivers: &[Receiver]) -> std::io::Result<()> {
    let api = format!("http://{}/api/v1", service.address);
    let title = format!("webhook-server {} demo", version::LONG);
    screen.line(screen.paint(Colour::Bold, title))?;
    screen.line(format_args!("  API on {api} (its database is deleted when the demo ends)"))?;
    screen.line(
        "  retries after 1, 2, 4 and 8 seconds; five receivers on 127.0.0.1, which verify every signature:",
    )?;
    for receiver in receivers {
        screen.line(format_args!(
            "    {:<10} takes {:<10} and {}",
            receiver.name, receiver.takes, receiver.habit
        ))?;
    }
    screen.line("  look at it, or publish, from another terminal:")?;
    screen.line(format_args!("    curl '{api}/deliveries?status=retrying,exhausted'"))?;
    screen.line(format_args!("    curl '{api}/attempts?limit=5'"))?;
    screen.line(format_args!(
        "    curl '{api}/events' -H 'content-type: application/json' \\\n      \
         -d '{{\"event_type\":\"invoice.paid\",\"payload\":{{\"id\":\"INV-1\",\"total\":42}}}}'"
    ))?;
    screen.line("  Ctrl-C ends it.\n")
}
