//! Messages come out whole, in whatever pieces they came in, and only within their bounds.

use std::collections::VecDeque;
use std::future::poll_fn;

use proptest::prelude::*;
use tokio_util::sync::CancellationToken;
use tonic_types::StatusExt as _;

use super::*;
use crate::connections::{Connections, Ends, Line, Protocol};
use crate::intake::Intake;
use crate::{Metrics, ServerConfig};

/// What a client sends; without an end it waits for ever after the last piece.
struct Sent {
    pieces: VecDeque<Bytes>,
    ends: bool,
}

impl HttpBody for Sent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.pieces.pop_front() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None if self.ends => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

fn message(length: usize) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend((length as u32).to_be_bytes());
    bytes.extend((0..length).map(|at| at as u8));
    bytes
}

/// A call with `mib` of memory for all requests.
fn call(mib: usize) -> (Arc<Line>, Incoming) {
    let config = ServerConfig { max_intake_mib: mib, ..ServerConfig::on_port(0) };
    let metrics = Metrics::new("vae");
    let ends = Ends { leave: CancellationToken::new(), cut: CancellationToken::new() };
    let connections = Connections::new("grpc", Protocol::Http2, &config, &metrics, ends);
    let line = connections.seat(([192, 0, 2, 1], 1).into()).unwrap();
    let holding = Intake::new(&config, &metrics).bytes.holding(line.origin());
    (line, Incoming { holding: Arc::new(holding), answered: Arc::default() })
}

fn body(sent: Sent, limits: RequestLimits, line: &Arc<Line>, incoming: &Incoming) -> RequestBody<Sent> {
    RequestBody::new(sent, limits, incoming.clone(), line.begin(false).request())
}

const LIMITS: RequestLimits =
    RequestLimits { whole: Duration::from_secs(1), pause: Duration::from_secs(2), message: 4 << 20 };

/// All data frames, and the status that ended them, if any.
async fn read(mut body: RequestBody<Sent>) -> (Vec<Bytes>, Option<Status>) {
    let mut frames = Vec::new();
    loop {
        match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            Some(Ok(frame)) => frames.extend(frame.into_data()),
            Some(Err(error)) => return (frames, Some(Status::from_error(error))),
            None => return (frames, None),
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
}

proptest! {
    #[test]
    fn messages_come_out_whole(
        lengths in prop::collection::vec(0..300usize, 0..8), tail in 0..9usize,
        cuts in prop::collection::vec(1..60usize, 1..20),
    ) {
        let messages: Vec<Vec<u8>> = lengths.into_iter().map(message).collect();
        let mut bytes = messages.concat();
        // The beginning of one more, which never comes whole.
        bytes.extend(&message(300)[..tail]);
        let mut pieces = VecDeque::new();
        let (mut rest, mut cuts) = (bytes.as_slice(), cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            pieces.push_back(Bytes::copy_from_slice(piece));
            rest = after;
        }
        runtime().block_on(async {
            let (line, incoming) = call(1);
            let (frames, status) = read(body(Sent { pieces, ends: true }, LIMITS, &line, &incoming)).await;
            prop_assert!(status.is_none());
            prop_assert_eq!(frames.concat(), bytes);
            for (frame, message) in frames.iter().zip(&messages) {
                prop_assert_eq!(frame, message);
            }
            prop_assert_eq!(frames.len(), messages.len() + usize::from(tail > 0));
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_request_that_does_not_end_is_answered() {
    let (line, incoming) = call(1);
    let sent = Sent { pieces: [Bytes::from(message(10))].into(), ends: false };
    let (frames, status) = read(body(sent, LIMITS, &line, &incoming)).await;
    assert_eq!(frames.len(), 1);
    let status = status.unwrap();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(status.message(), "the request was not whole after request_seconds = 1");
}

#[tokio::test]
async fn a_stream_of_requests_may_rest_for_longer() {
    let (line, incoming) = call(1);
    incoming.answered.store(true, Ordering::Release);
    let sent = Sent { pieces: [Bytes::from(message(10))].into(), ends: false };
    let (_, status) = read(body(sent, LIMITS, &line, &incoming)).await;
    assert_eq!(status.unwrap().message(), "nothing more of the request came for idle_seconds = 2");
}

#[tokio::test]
async fn what_is_announced_costs_nothing_and_what_comes_is_bounded() {
    // Three quarters of a MiB are one address's.
    let (line, incoming) = call(1);
    let piece = Bytes::from(message(2 << 20)).slice(..1 << 18);
    let sent = |pieces| Sent { pieces: vec![piece.clone(); pieces].into(), ends: false };
    let (frames, status) = read(body(sent(4), LIMITS, &line, &incoming)).await;
    assert_eq!(frames.len(), 0);
    let status = status.unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.message(), "other requests hold all memory there is (max_intake_mib)");
    assert!(status.get_details_retry_info().is_some_and(|retry| retry.retry_delay.is_some()));
    // The call ends with its answer, and gives back what it held.
    drop(incoming);

    let (line, incoming) = call(1);
    let tiny = RequestLimits { message: 100, ..LIMITS };
    let (frames, _) = read(body(sent(1), tiny, &line, &incoming)).await;
    assert_eq!(frames.concat().len(), 1 << 18, "one that is too large is the decoder's to refuse");
}
