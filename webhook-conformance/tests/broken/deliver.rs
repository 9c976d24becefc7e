//! Broken deliverers: a good one with what goes in or comes out bent.

use std::collections::HashMap;
use std::fmt::Debug;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;
use webhook_conformance::deliver::Lookup;
use webhook_conformance::{DelivererFixture, Missing};
use webhook_core::deliver::{Answer, BODY_LIMIT, Deliverer, Exchange, Request};
use webhook_core::model::{AttemptError, ErrorKind};
use webhook_core::target::TargetRules;
use webhook_deliver_hyper::HyperDeliverer;

/// One bent part; the others do nothing.
#[async_trait]
trait Defect: Debug + Default + Send + Sync + 'static {
    fn rules(rules: TargetRules) -> TargetRules {
        rules
    }
    fn lookup(lookup: Lookup) -> Lookup {
        lookup
    }
    /// The request that is sent.
    fn request(&self, _request: &mut Request) {}
    /// The answer that is told.
    fn answer(&self, answer: Answer) -> Result<Answer, AttemptError> {
        Ok(answer)
    }
    /// The failure that is told.
    fn failure(&self, error: AttemptError, _request: &Request) -> Result<Answer, AttemptError> {
        Err(error)
    }
    async fn deliver(&self, inner: &HyperDeliverer, request: Request) -> Exchange {
        inner.deliver(request).await
    }
}

#[derive(Debug)]
struct Bent<D> {
    inner: HyperDeliverer,
    defect: D,
}

#[async_trait]
impl<D: Defect> Deliverer for Bent<D> {
    async fn deliver(&self, mut request: Request) -> Exchange {
        self.defect.request(&mut request);
        let exchange = self.defect.deliver(&self.inner, request.clone()).await;
        let result = match exchange.result {
            Ok(answer) => self.defect.answer(answer),
            Err(error) => self.defect.failure(error, &request),
        };
        Exchange { result, ..exchange }
    }
}

struct Broken<D>(PhantomData<D>);

impl<D: Defect> DelivererFixture for Broken<D> {
    fn deliverer(rules: TargetRules) -> Arc<dyn Deliverer> {
        let inner = HyperDeliverer::builder().target_rules(D::rules(rules)).build().unwrap();
        Arc::new(Bent { inner, defect: D::default() })
    }
    fn resolving(rules: TargetRules, lookup: Lookup) -> Result<Arc<dyn Deliverer>, Missing> {
        let builder = HyperDeliverer::builder().target_rules(D::rules(rules));
        let inner = builder.lookup(D::lookup(lookup)).build().unwrap();
        Ok(Arc::new(Bent { inner, defect: D::default() }))
    }
}

macro_rules! bend {
    ($name:ident: $($method:tt)*) => {
        #[derive(Debug, Default)]
        struct $name;

        #[async_trait]
        impl Defect for $name {
            $($method)*
        }
    };
}

bend! { FollowsRedirects:
    async fn deliver(&self, inner: &HyperDeliverer, mut request: Request) -> Exchange {
        let first = inner.deliver(request.clone()).await;
        let Ok(answer) = &first.result else { return first };
        let Some((_, target)) = answer.headers.iter().find(|(name, _)| name == "location") else { return first };
        request.url = target.parse().unwrap();
        inner.deliver(request).await
    }
}

bend! { Repeats:
    async fn deliver(&self, inner: &HyperDeliverer, request: Request) -> Exchange {
        let first = inner.deliver(request.clone()).await;
        match &first.result {
            Err(error) if error.kind == ErrorKind::Reset => inner.deliver(request).await,
            _ => first,
        }
    }
}

bend! { GoesOnWhenDropped:
    async fn deliver(&self, inner: &HyperDeliverer, request: Request) -> Exchange {
        let inner = inner.clone();
        tokio::spawn(async move { inner.deliver(request).await }).await.unwrap()
    }
}

bend! { ConnectsAnew:
    async fn deliver(&self, _inner: &HyperDeliverer, request: Request) -> Exchange {
        let rules = webhook_conformance::deliver::local_rules();
        HyperDeliverer::builder().target_rules(rules).build().unwrap().deliver(request).await
    }
}

bend! { ForgetsTheDeadline:
    fn request(&self, request: &mut Request) {
        request.deadline = Duration::from_secs(6);
    }
}

bend! { GivesUpEarly:
    fn request(&self, request: &mut Request) {
        request.deadline /= 3;
    }
}

bend! { AlwaysHasTime:
    fn request(&self, request: &mut Request) {
        request.deadline = request.deadline.max(Duration::from_secs(1));
    }
}

bend! { DialsAnything:
    fn rules(rules: TargetRules) -> TargetRules {
        let allow = vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
        TargetRules { allow, ..rules }
    }
}

bend! { TakesAnyScheme:
    fn rules(rules: TargetRules) -> TargetRules {
        TargetRules { https_only: false, ..rules }
    }
}

bend! { VetsTheFirstAddress:
    fn lookup(lookup: Lookup) -> Lookup {
        Arc::new(move |name| Ok(lookup(name)?.into_iter().take(1).collect()))
    }
}

bend! { ResolvesOnce:
    fn lookup(lookup: Lookup) -> Lookup {
        let known = Mutex::new(HashMap::new());
        Arc::new(move |name| {
            let mut known = known.lock().unwrap();
            let addrs = known.entry(name.to_owned()).or_insert_with(|| lookup(name).unwrap());
            Ok(addrs.clone())
        })
    }
}

bend! { TellsTheUrl:
    fn failure(&self, mut error: AttemptError, request: &Request) -> Result<Answer, AttemptError> {
        error.detail = format!("{} ({})", error.detail, request.url);
        Err(error)
    }
}

bend! { SaysNothing:
    fn failure(&self, error: AttemptError, _request: &Request) -> Result<Answer, AttemptError> {
        Err(AttemptError::new(error.kind, ""))
    }
}

/// Tells one kind for another.
macro_rules! confuse {
    ($($name:ident: $from:ident => $to:ident;)*) => {
        $(bend! { $name:
            fn failure(&self, mut error: AttemptError, _request: &Request) -> Result<Answer, AttemptError> {
                if error.kind == ErrorKind::$from {
                    error.kind = ErrorKind::$to;
                }
                Err(error)
            }
        })*
    };
}

confuse! {
    NoNameIsNoConnection: Dns => Connect;
    AnyCloseIsReset: Protocol => Reset;
    AnyCloseIsProtocol: Reset => Protocol;
    NoConnectionIsReset: Connect => Reset;
}

bend! { AddsAccept:
    fn request(&self, request: &mut Request) {
        request.headers.push(("accept".into(), "*/*".to_owned()));
    }
}

bend! { SendsText:
    fn request(&self, request: &mut Request) {
        request.body = String::from_utf8_lossy(&request.body).into_owned().into();
    }
}

bend! { SendsEachNameOnce:
    fn request(&self, request: &mut Request) {
        let mut seen = Vec::new();
        request.headers.retain(|(name, _)| {
            let new = !seen.contains(name);
            seen.push(name.clone());
            new
        });
    }
}

bend! { LeavesOutWhatItCannotSend:
    fn request(&self, request: &mut Request) {
        request.headers.retain(|(name, value)| {
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
                && !name.is_empty()
                && !value.contains('\n')
        });
    }
}

bend! { DropsTheQuery:
    fn request(&self, request: &mut Request) {
        request.url.set_query(None);
    }
}

bend! { KeepsFewHeaders:
    fn answer(&self, mut answer: Answer) -> Result<Answer, AttemptError> {
        answer.headers.truncate(4);
        Ok(answer)
    }
}

bend! { LosesTheBody:
    fn answer(&self, mut answer: Answer) -> Result<Answer, AttemptError> {
        answer.body = Bytes::new();
        Ok(answer)
    }
}

bend! { KeepsTooMuch:
    fn answer(&self, mut answer: Answer) -> Result<Answer, AttemptError> {
        if answer.body.len() == BODY_LIMIT {
            answer.body = [&answer.body[..], b"x"].concat().into();
        }
        Ok(answer)
    }
}

bend! { Decompresses:
    fn answer(&self, mut answer: Answer) -> Result<Answer, AttemptError> {
        if answer.headers.iter().any(|(name, _)| name == "content-encoding") {
            answer.body = Bytes::new();
        }
        Ok(answer)
    }
}

bend! { WantsAWholeBody:
    fn answer(&self, answer: Answer) -> Result<Answer, AttemptError> {
        let announced = answer.headers.iter().find(|(name, _)| name == "content-length");
        let announced = announced.map_or(0, |(_, length)| length.parse().unwrap());
        if answer.body.len() < announced.min(BODY_LIMIT) {
            return Err(AttemptError::new(ErrorKind::Timeout, "the body did not come"));
        }
        Ok(answer)
    }
}

bend! { WantsSuccess:
    fn answer(&self, answer: Answer) -> Result<Answer, AttemptError> {
        if answer.status >= 400 {
            return Err(AttemptError::new(ErrorKind::Status, "not a success"));
        }
        Ok(answer)
    }
}

bend! { TakesAnyStatus:
    fn failure(&self, error: AttemptError, _request: &Request) -> Result<Answer, AttemptError> {
        if error.kind == ErrorKind::Protocol {
            return Ok(Answer { status: 600, headers: Vec::new(), body: Bytes::new() });
        }
        Err(error)
    }
}

/// Gives each request the answer of the one before.
#[derive(Debug, Default)]
struct AnswersLate(Mutex<Option<Answer>>);

#[async_trait]
impl Defect for AnswersLate {
    fn answer(&self, answer: Answer) -> Result<Answer, AttemptError> {
        let mut last = self.0.lock().unwrap();
        Ok(last.replace(answer.clone()).unwrap_or(answer))
    }
}

/// Panics unless the case does.
async fn caught(name: &str, case: impl Future<Output = ()>) {
    let outcome = AssertUnwindSafe(case).catch_unwind().await;
    assert!(outcome.is_err(), "{name} did not catch it");
}

macro_rules! defects {
    ($($name:ident: $defect:ty => $family:ident::$case:ident;)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let name = concat!(stringify!($family), "::", stringify!($case));
            caught(name, webhook_conformance::deliver::$family::$case::<Broken<$defect>>()).await;
        })*
    };
}

defects! {
    redirects_followed: FollowsRedirects => answers::redirects_are_not_followed;
    a_success_wanted: WantsSuccess => answers::every_status_from_200_to_599_is_an_answer;
    any_status_taken: TakesAnyStatus => answers::statuses_outside_200_to_599_are_protocol;
    few_headers_kept: KeepsFewHeaders => answers::headers_are_kept_to_the_limit_and_retry_after_always;
    the_body_lost: LosesTheBody => answers::an_answer_carries_status_headers_and_body;
    more_than_the_limit_kept: KeepsTooMuch => bodies::a_body_that_never_ends_is_cut_at_the_limit;
    a_whole_body_wanted: WantsAWholeBody => bodies::a_body_that_stops_is_kept_as_far_as_it_came;
    a_broken_body_refused: WantsAWholeBody => bodies::a_body_that_breaks_off_does_not_undo_the_status;
    bodies_decompressed: Decompresses => bodies::a_compressed_body_is_left_as_it_is;
    a_connection_for_each_request: ConnectsAnew => connections::connections_are_used_again;
    requests_repeated: Repeats => connections::a_request_that_is_read_and_not_answered_is_not_repeated;
    an_exchange_that_goes_on_when_dropped: GoesOnWhenDropped => connections::dropping_the_exchange_closes_the_connection;
    answers_mixed_up: AnswersLate => connections::concurrent_requests_get_their_own_answers;
    the_deadline_forgotten: ForgetsTheDeadline => deadlines::a_receiver_that_does_not_answer_is_timeout;
    given_up_early: GivesUpEarly => deadlines::a_head_that_drips_is_timeout;
    sent_without_time: AlwaysHasTime => deadlines::a_deadline_of_nothing_sends_nothing;
    the_url_told: TellsTheUrl => failures::a_closed_port_is_connect;
    nothing_told: SaysNothing => failures::a_closed_port_is_connect;
    no_name_told_as_no_connection: NoNameIsNoConnection => failures::a_name_that_does_not_exist_is_dns;
    no_connection_told_as_reset: NoConnectionIsReset => failures::a_closed_port_is_connect;
    any_close_told_as_reset: AnyCloseIsReset => failures::closing_in_the_middle_of_the_head_is_protocol;
    any_close_told_as_protocol: AnyCloseIsProtocol => failures::closing_before_any_byte_is_reset;
    a_header_added: AddsAccept => requests::only_what_http_needs_is_added;
    a_body_sent_as_text: SendsText => requests::a_body_arrives_byte_for_byte;
    each_name_sent_once: SendsEachNameOnce => requests::the_given_headers_arrive;
    defects_left_out: LeavesOutWhatItCannotSend => requests::headers_that_cannot_be_sent_are_a_defect_and_no_panic;
    the_query_dropped: DropsTheQuery => requests::a_request_is_a_post_to_the_path_and_query;
    anything_dialled: DialsAnything => targets::loopback_in_every_spelling_is_blocked;
    any_scheme_taken: TakesAnyScheme => targets::what_else_the_rules_refuse_is_blocked;
    the_first_address_vetted: VetsTheFirstAddress => targets::one_refused_address_keeps_all_from_being_dialled;
    a_name_resolved_once: ResolvesOnce => targets::every_dial_is_vetted_anew;
}
