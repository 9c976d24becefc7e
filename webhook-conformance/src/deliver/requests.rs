//! What a receiver gets.

use webhook_core::deliver::Request;
use webhook_core::model::ErrorKind;

use super::{DelivererFixture, OK, Received, Receiver, failure, local, request};

async fn received<F: DelivererFixture>(change: impl FnOnce(&mut Request)) -> Received {
    let mut receiver = Receiver::answering(OK).await;
    let mut sent = request(&receiver.url());
    change(&mut sent);
    local::<F>().deliver(sent).await.result.expect("an answer");
    let [received] = receiver.requests().try_into().expect("one request");
    received
}

/// `POST`, to the path and query of the URL, as HTTP/1.1.
pub async fn a_request_is_a_post_to_the_path_and_query<F: DelivererFixture>() {
    let got = received::<F>(|_| {}).await;
    assert_eq!(got.line, "POST /hooks?token=s3cret HTTP/1.1");
    let got = received::<F>(|request| request.url.set_path("/a%20b/ü;x=1,2/(c)!'*")).await;
    assert_eq!(got.line, "POST /a%20b/%C3%BC;x=1,2/(c)!'*?token=s3cret HTTP/1.1");
    let got = received::<F>(|request| {
        request.url.set_path("");
        request.url.set_query(None);
    })
    .await;
    assert_eq!(got.line, "POST / HTTP/1.1");
}

/// No URL that the rules let through is one that cannot be sent, whatever is written in it.
pub async fn every_character_of_a_url_is_sent_as_it_stands<F: DelivererFixture>() {
    let all: String = ('!'..='~').chain("äß€😀".chars()).collect();
    let mut url: url::Url = "http://127.0.0.1/".parse().unwrap();
    url.set_path(&all);
    url.set_query(Some(&all));
    let target = url[url::Position::BeforePath..].to_owned();
    let got = received::<F>(|request| {
        request.url.set_path(&all);
        request.url.set_query(Some(&all));
    })
    .await;
    assert_eq!(got.line, format!("POST {target} HTTP/1.1"));
}

/// Promise 9: no byte is changed, whatever the body is.
pub async fn a_body_arrives_byte_for_byte<F: DelivererFixture>() {
    let all: Vec<u8> = (0..=255).collect();
    for body in [b"{\"z\":1.50, \"a\" : \"\xff\x00\"}\n".to_vec(), all.repeat(16 * 1024)] {
        let got = received::<F>(|request| request.body = body.clone().into()).await;
        assert_eq!(got.header("content-length"), Some(body.len().to_string().as_str()));
        assert!(got.body == body, "{} bytes arrived changed", body.len());
    }
}

/// RFC 9110, 8.6: a method that gives a body a meaning tells the length of none, too.
pub async fn an_empty_body_has_a_length<F: DelivererFixture>() {
    let got = received::<F>(|request| request.body = Vec::new().into()).await;
    assert_eq!(got.header("content-length"), Some("0"));
}

/// Every header given arrives, one name twice too.
pub async fn the_given_headers_arrive<F: DelivererFixture>() {
    let long = "v".repeat(7000);
    let given = [("x-twice", "1"), ("x-twice", "2"), ("x-empty", ""), ("x-long", &long)];
    let got = received::<F>(|request| {
        request.headers.extend(given.map(|(name, value)| (name.into(), value.into())));
    })
    .await;
    let expected = request("http://127.0.0.1/").headers.into_iter();
    let expected = expected.map(|(name, value)| (name.into_owned(), value));
    let given = given.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    for header in expected.chain(given) {
        assert!(got.headers.contains(&header), "{header:?} did not arrive: {:?}", got.headers);
    }
}

/// `host` and `content-length`, and nothing else that was not given.
pub async fn only_what_http_needs_is_added<F: DelivererFixture>() {
    let got = received::<F>(|_| {}).await;
    let mut names: Vec<&str> = got.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "content-type", "host", "user-agent", "webhook-id"]);
}

/// With its port, as it stands in the URL.
pub async fn the_host_is_that_of_the_url<F: DelivererFixture>() {
    let mut receiver = Receiver::answering(OK).await;
    local::<F>().deliver(request(&receiver.url())).await.result.expect("an answer");
    let host = receiver.addr.to_string();
    assert_eq!(receiver.requests()[0].header("host"), Some(host.as_str()));
}

/// Promise 14: what core checks at write time may still come here by a defect. It fails as `internal`, and nothing is
/// sent: a second framing header could make two requests of one.
pub async fn headers_that_cannot_be_sent_are_a_defect_and_no_panic<F: DelivererFixture>() {
    let mut receiver = Receiver::answering(OK).await;
    let deliverer = local::<F>();
    for (name, value) in [
        ("bad name", "x"),
        ("", "x"),
        ("x-split", "a\r\nx-evil: s3cret"),
        ("content-length", "1"),
        ("Transfer-Encoding", "chunked"),
        ("host", "other.example"),
        ("connection", "upgrade"),
    ] {
        let mut request = request(&receiver.url());
        request.headers.push((name.into(), value.into()));
        assert_eq!(failure(&*deliverer, request).await.kind, ErrorKind::Internal, "{name}");
    }
    assert!(receiver.requests().is_empty(), "something was sent");
}
