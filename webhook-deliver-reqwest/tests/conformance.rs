//! The suites for deliverers.
#![allow(clippy::unwrap_used, reason = "fixtures of tests are not marked as tests")]

use std::sync::Arc;

use webhook_conformance::deliver::Lookup;
use webhook_conformance::{DelivererFixture, Missing, TlsFixture};
use webhook_core::deliver::Deliverer;
use webhook_core::target::TargetRules;
use webhook_deliver_reqwest::ReqwestDeliverer;

struct Reqwest;

impl DelivererFixture for Reqwest {
    fn deliverer(rules: TargetRules) -> Arc<dyn Deliverer> {
        Arc::new(ReqwestDeliverer::builder().target_rules(rules).build().unwrap())
    }

    fn resolving(rules: TargetRules, lookup: Lookup) -> Result<Arc<dyn Deliverer>, Missing> {
        Ok(Arc::new(ReqwestDeliverer::builder().target_rules(rules).lookup(lookup).build().unwrap()))
    }

    fn skip(case: &str) -> Option<&'static str> {
        match case {
            "deliver::requests::only_what_http_needs_is_added" => {
                Some("reqwest always sends `accept: */*` and has no switch for it")
            }
            "deliver::failures::closing_in_the_middle_of_the_head_is_protocol" => Some(
                "hyper tells it from a reset only inside, and reqwest does not let the stream be watched",
            ),
            _ => None,
        }
    }
}

impl TlsFixture for Reqwest {
    fn trusting(rules: TargetRules, authority: &str) -> Arc<dyn Deliverer> {
        let builder = ReqwestDeliverer::builder().target_rules(rules);
        Arc::new(builder.root_certificates(authority).build().unwrap())
    }
}

webhook_conformance::deliverer_tests!(Reqwest);
webhook_conformance::deliverer_tls_tests!(Reqwest);
