//! One of everything that has an id, all of the tenant `acme`, and at rest: nothing of it changes by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::operations::Operation;
use crate::support::eventually;
use crate::support::receiver::Receiver;
use crate::world::{ACME, ADMIN, World};

/// Their ids, by the first part of the paths that take them.
#[derive(Debug)]
pub(crate) struct Things {
    ids: BTreeMap<&'static str, String>,
    /// Takes what is sent after all.
    receiver: Receiver,
}

impl Things {
    /// A subscription that is paused, with an event and a delivery that waits behind it, where a foreign request would
    /// do most; beside them another that has got its event.
    pub(crate) async fn of_acme(world: &World) -> Self {
        // First, for it takes the server a moment.
        world.insert_what_cannot_be_published("acme").await;
        let receiver = Receiver::start(Duration::ZERO).await;
        let subscribe = async |event_type: &str| {
            let draft = json!({"target_url": receiver.url, "event_types": [event_type]});
            text(&world.post("/subscriptions", ACME, &draft).await["id"])
        };
        let publish = async |event_type: &str| {
            world.post("/events", ACME, &json!({"event_type": event_type, "payload": {"n": 1}})).await
        };
        subscribe("served").await;
        publish("served").await;
        eventually("it is delivered", async || {
            let list = world.get("/deliveries?status=succeeded", ACME).await.json();
            (!list["data"].as_array()?.is_empty()).then_some(())
        })
        .await;

        let paused = subscribe("held").await;
        world.post(&format!("/subscriptions/{paused}/pause"), ACME, &json!({})).await;
        let published = publish("held").await;
        let replay = text(&world.post("/deliveries/retry", ACME, &json!({})).await["id"]);
        eventually("the replay is done", async || {
            let found = world.get(&format!("/replays/{replay}"), ACME).await.json();
            (found["status"] == "done").then_some(())
        })
        .await;
        let rejected = eventually("the row of the inbox is rejected", async || {
            let list = world.get("/inbox?status=rejected", ACME).await.json();
            list["data"][0]["id"].as_str().map(str::to_owned)
        })
        .await;
        let ids = BTreeMap::from([
            ("subscriptions", paused),
            ("events", text(&published["id"])),
            ("deliveries", text(&published["deliveries"][0]["id"])),
            ("replays", replay),
            ("inbox", rejected),
        ]);
        Self { ids, receiver }
    }

    /// What an operation's id is one of.
    pub(crate) fn kind(operation: &Operation) -> &'static str {
        match operation.path.split('/').nth(1).unwrap() {
            "subscriptions" | "ingest" => "subscriptions",
            "events" => "events",
            "deliveries" => "deliveries",
            "replays" => "replays",
            "inbox" => "inbox",
            other => panic!("whose id is in /{other}?"),
        }
    }

    /// All of them, with their kinds.
    pub(crate) fn ids(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.ids.iter().map(|(kind, id)| (*kind, id.as_str()))
    }

    /// The one of this kind.
    pub(crate) fn id(&self, kind: &str) -> &str {
        &self.ids[kind]
    }

    /// An operation's path, of one of these where it takes an id.
    pub(crate) fn path(&self, operation: &Operation) -> String {
        if operation.takes_an_id() {
            operation.path.replace("{id}", self.id(Self::kind(operation)))
        } else {
            operation.path.clone()
        }
    }

    /// The operation with a body that, were it accepted, would do something, and send it nowhere but here.
    pub(crate) fn in_earnest(&self, operation: &Operation) -> Operation {
        let mut operation = operation.clone();
        if let Some(Value::Object(body)) = &mut operation.body {
            body.remove("dry_run");
            if body.contains_key("target_url") {
                body.insert("target_url".to_owned(), json!(self.receiver.url));
            }
        }
        operation
    }

    /// Everything that the API shows of them, and how much is stored in all.
    pub(crate) async fn snapshot(&self, world: &World) -> BTreeMap<String, Value> {
        let mut shown = BTreeMap::new();
        for operation in world.operations.iter().filter(|operation| operation.method == "GET") {
            let path = self.path(operation);
            let answer = match (operation.is_a_list(), operation.takes_an_id()) {
                (true, false) => world.get(&format!("{path}?tenant=*&limit=250"), ADMIN).await,
                // Statistics count what time does, too.
                (false, _) if path.ends_with("/stats") => continue,
                _ => world.get(&path, ACME).await,
            };
            assert_eq!(answer.status, 200, "{path}: {:?}", answer.body);
            shown.insert(path, json!(String::from_utf8_lossy(&answer.body)));
        }
        shown.insert("rows".to_owned(), json!(world.rows().await));
        shown
    }
}

/// A text of an answer.
#[track_caller]
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}
