//! The suites for deliverers.
#![allow(clippy::unwrap_used, reason = "fixtures of tests are not marked as tests")]

use std::sync::Arc;

use webhook_conformance::deliver::Lookup;
use webhook_conformance::{DelivererFixture, Missing, TlsFixture};
use webhook_core::deliver::Deliverer;
use webhook_core::target::TargetRules;
use webhook_deliver_hyper::HyperDeliverer;

struct Hyper;

impl DelivererFixture for Hyper {
    fn deliverer(rules: TargetRules) -> Arc<dyn Deliverer> {
        Arc::new(HyperDeliverer::builder().target_rules(rules).build().unwrap())
    }

    fn resolving(rules: TargetRules, lookup: Lookup) -> Result<Arc<dyn Deliverer>, Missing> {
        Ok(Arc::new(HyperDeliverer::builder().target_rules(rules).lookup(lookup).build().unwrap()))
    }
}

impl TlsFixture for Hyper {
    fn trusting(rules: TargetRules, authority: &str) -> Arc<dyn Deliverer> {
        let builder = HyperDeliverer::builder().target_rules(rules);
        Arc::new(builder.root_certificates(authority).build().unwrap())
    }
}

webhook_conformance::deliverer_tests!(Hyper);
webhook_conformance::deliverer_tls_tests!(Hyper);
