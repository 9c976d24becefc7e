//! Sample events of a shop: orders, invoices, users and reports, with payloads as such systems send them.
//!
//! The stream is the same every time, so that two runs of the demo can be compared.

use serde_json::{Value, json};
use webhook_core::model::NewEvent;
use webhook_core::time::{Clock as _, SystemClock};

const CUSTOMERS: [(&str, &str, &str); 6] = [
    ("Ada Okafor", "ada.okafor@example.com", "NG"),
    ("Jonas Lindqvist", "jonas@lindqvist.example", "SE"),
    ("Mei Tanaka", "mei.tanaka@example.jp", "JP"),
    ("Lucía Fernández", "lucia@fernandez.example", "ES"),
    ("Priya Raman", "priya.raman@example.in", "IN"),
    ("Tom Becker", "t.becker@example.de", "DE"),
];

const PRODUCTS: [(&str, &str, u64); 5] = [
    ("SKU-1042", "Espresso machine", 34_900),
    ("SKU-2210", "Coffee grinder", 12_950),
    ("SKU-3001", "House blend, 1 kg", 2_490),
    ("SKU-3007", "Decaf, 500 g", 1_590),
    ("SKU-9100", "Descaler", 890),
];

/// The order in which kinds of events come.
const STREAM: [&str; 12] = [
    "report.generated",
    "order.created",
    "invoice.created",
    "user.created",
    "order.paid",
    "invoice.paid",
    "order.shipped",
    "user.updated",
    "invoice.paid",
    "order.created",
    "invoice.overdue",
    "order.refunded",
];

/// The stream.
#[derive(Debug, Default)]
pub(super) struct Samples {
    count: u64,
}

impl Samples {
    /// One more event.
    pub(super) fn next_event(&mut self) -> NewEvent {
        let n = self.count;
        self.count += 1;
        let event_type = pick(&STREAM, n);
        let kind = event_type.split('.').next().unwrap_or_default();
        let data = match kind {
            "order" => order(n, event_type),
            "invoice" => invoice(n),
            "user" => user(n),
            _ => report(n),
        };
        let payload = json!({"type": event_type, "timestamp": SystemClock.now(), "data": data});
        NewEvent::json(event_type, payload.to_string()).ordering_key(format!("{kind}-{n}"))
    }
}

/// Every n names one, and neighbours name different ones.
fn pick<T: Copy, const LEN: usize>(all: &[T; LEN], n: u64) -> T {
    let index = usize::try_from(n % LEN as u64).unwrap_or(0);
    all[index]
}

fn order(n: u64, event_type: &str) -> Value {
    let (name, email, country) = pick(&CUSTOMERS, n * 5 + 1);
    let items: Vec<_> = (0..=n % 3).map(|i| (pick(&PRODUCTS, n * 3 + i * 2), 1 + (n + i) % 4)).collect();
    let total: u64 = items.iter().map(|((_, _, price), quantity)| price * quantity).sum();
    json!({
        "id": format!("ord_{:06}", 100_200 + n),
        "status": event_type.rsplit('.').next(),
        "customer": {"name": name, "email": email, "country": country},
        "items": items.iter().map(|((sku, title, price), quantity)| {
            json!({"sku": sku, "title": title, "unit_price": price, "quantity": quantity})
        }).collect::<Vec<_>>(),
        "total": total,
        "currency": "EUR",
    })
}

fn invoice(n: u64) -> Value {
    let (name, email, _) = pick(&CUSTOMERS, n * 7 + 2);
    let net = 1_500 + n * 7_919 % 90_000;
    json!({
        "id": format!("INV-2026-{:05}", 4_100 + n),
        "order_id": format!("ord_{:06}", 100_200 + n / 2),
        "bill_to": {"name": name, "email": email},
        "net": net,
        "tax": net / 5,
        "total": net + net / 5,
        "currency": "EUR",
        "due_in_days": 14,
    })
}

fn user(n: u64) -> Value {
    let (name, email, country) = pick(&CUSTOMERS, n * 11 + 3);
    json!({
        "id": format!("usr_{:05}", 20_010 + n),
        "name": name,
        "email": email,
        "country": country,
        "plan": pick(&["free", "team", "business"], n),
        "marketing_consent": n.is_multiple_of(2),
    })
}

fn report(n: u64) -> Value {
    json!({
        "id": format!("rep_{:04}", 700 + n),
        "name": "Sales by country",
        "rows": 180 + n * 13 % 400,
        "format": "csv",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_event_comes_early() {
        for kind in ["order.", "invoice.", "user.", "report."] {
            assert!(STREAM[..4].iter().any(|event_type| event_type.starts_with(kind)), "{kind}");
        }
    }

    #[test]
    fn an_orders_total_is_that_of_its_items() {
        let order = order(7, "order.paid");
        let items = order["items"].as_array().unwrap();
        let sum: u64 = items
            .iter()
            .map(|item| item["unit_price"].as_u64().unwrap() * item["quantity"].as_u64().unwrap())
            .sum();
        assert_eq!(order["total"], sum);
        assert_eq!(order["status"], "paid");
    }
}
