//! One deadline over everything.

use std::future::Future;
use std::time::Duration;

use webhook_core::model::ErrorKind;

use super::{Connection, DelivererFixture, OK, Receiver, failure, local, request};

const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(5);

/// Expects `timeout`, no earlier than the deadline and not long after it, of a receiver that does this.
async fn times_out<F, S, R>(script: S)
where
    F: DelivererFixture,
    S: Fn(Connection) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let receiver = Receiver::start(script).await;
    let mut request = request(&receiver.url());
    request.deadline = SHORT;
    let exchange = local::<F>().deliver(request).await;
    assert_eq!(exchange.result.expect_err("no answer came").kind, ErrorKind::Timeout);
    let took = exchange.duration;
    assert!(took >= SHORT && took < LONG, "it took {took:?}");
}

/// It accepts and says nothing.
pub async fn a_receiver_that_does_not_answer_is_timeout<F: DelivererFixture>() {
    times_out::<F, _, _>(|mut connection| async move { connection.closed().await }).await;
}

/// Every byte comes in time, the head does not.
pub async fn a_head_that_drips_is_timeout<F: DelivererFixture>() {
    times_out::<F, _, _>(|mut connection| async move {
        connection.request().await;
        connection.send("HTTP/1.1 200 OK\r\nx-long: ").await;
        while connection.send("x").await {
            tokio::time::sleep(Duration::from_millis(5)).await; // verify: allow(sleep): a target that drips
        }
    })
    .await;
}

/// However fast they come.
pub async fn a_flood_of_informational_answers_is_timeout<F: DelivererFixture>() {
    times_out::<F, _, _>(|mut connection| async move {
        connection.request().await;
        while connection.send("HTTP/1.1 100 Continue\r\n\r\n").await {}
    })
    .await;
}

/// It reads nothing, so that the request cannot even be sent.
pub async fn a_receiver_that_does_not_read_is_timeout<F: DelivererFixture>() {
    let receiver = Receiver::start(|connection| async move {
        std::future::pending::<()>().await;
        drop(connection);
    })
    .await;
    let mut request = request(&receiver.url());
    request.body = vec![b'x'; 64 << 20].into();
    request.deadline = SHORT;
    let exchange = local::<F>().deliver(request).await;
    assert_eq!(exchange.result.expect_err("no answer came").kind, ErrorKind::Timeout);
    assert!(exchange.duration < LONG, "it took {:?}", exchange.duration);
}

/// No time is left: nothing is dialled.
pub async fn a_deadline_of_nothing_sends_nothing<F: DelivererFixture>() {
    let receiver = Receiver::answering(OK).await;
    let mut request = request(&receiver.url());
    request.deadline = Duration::ZERO;
    assert_eq!(failure(&*local::<F>(), request).await.kind, ErrorKind::Timeout);
    assert_eq!(receiver.connections(), 0, "it was dialled");
}
