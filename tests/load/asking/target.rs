//! Whom to ask, and what every request has in common.

use std::sync::Arc;
use std::time::{Duration, Instant};

use darkroom_proto::v1::{OutputFormat, Priority};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::load::arrivals::Arrival;
use crate::load::clock::Spent;
use crate::load::outcome::{End, Outcome};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
/// The header that an API key stands in.
pub(super) const API_KEY: &str = "x-api-key";

/// What every request asks for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Different prompts, which take turns.
    pub prompts: u64,
    /// By its name.
    pub sampler: String,
    /// 1 leaves the negative prompt out.
    pub guidance_scale: f64,
    /// Of the answer.
    pub format: OutputFormat,
    /// Previews with every n-th step; 0: none.
    pub preview_every: u32,
    /// Of the call.
    pub deadline: Option<Duration>,
    /// Latents must be those of the clock's denoisers.
    pub check_latents: bool,
    /// Latents say what the clock counted.
    pub read_spent: bool,
    /// An API key goes along, a different one for each identity.
    pub api_keys: bool,
    /// Added to each request's number.
    pub first_seed: u64,
}

impl Wish {
    pub(super) fn prompt(&self, number: u64) -> String {
        format!("a small red circle, number {}", number % self.prompts.max(1))
    }

    pub(super) fn key(&self, identity: usize) -> Option<MetadataValue<Ascii>> {
        if self.api_keys { MetadataValue::try_from(format!("key-{identity}")).ok() } else { None }
    }
}

/// Several connections to one server.
#[derive(Clone)]
pub struct Target {
    pub(super) channels: Arc<Vec<Channel>>,
    pub(super) wish: Arc<Wish>,
    /// Denoisers are asked without an orchestrator.
    pub(super) direct: bool,
}

impl Target {
    /// Opens all connections.
    ///
    /// # Errors
    /// When one cannot be had.
    pub async fn connect(address: &str, connections: usize, wish: Wish, direct: bool) -> anyhow::Result<Self> {
        let mut channels = Vec::new();
        for _ in 0..connections.max(1) {
            let endpoint = Endpoint::from_shared(format!("http://{address}"))?
                .connect_timeout(CONNECT_TIMEOUT)
                .tcp_nodelay(true)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW);
            channels.push(endpoint.connect().await?);
        }
        Ok(Self { channels: Arc::new(channels), wish: Arc::new(wish), direct })
    }

    pub(super) fn channel(&self, number: u64) -> Channel {
        self.channels[number as usize % self.channels.len()].clone()
    }

    /// Sends a request and follows it to its end; after `over` it is cut.
    pub(super) async fn ask(&self, number: u64, arrival: Arrival, begun: Instant, over: Option<Instant>) -> Outcome {
        let mut seen = Seen { due: begun + arrival.at, ..Seen::new(begun) };
        let late = seen.due.elapsed();
        let following = async {
            if self.direct {
                self.follow_denoiser(number, arrival, &mut seen).await
            } else {
                self.follow_orchestrator(number, arrival, &mut seen).await
            }
        };
        let end = match over {
            None => following.await,
            Some(over) => tokio::time::timeout_at(over.into(), following).await.unwrap_or(End::Cut),
        };
        let rows = if self.wish.guidance_scale == 1.0 { 1 } else { 2 };
        let pixels = u64::from(arrival.side / 8).pow(2);
        Outcome {
            identity: arrival.identity,
            priority: arrival.priority,
            work: rows * pixels * u64::from(arrival.steps),
            scheduled: arrival.at,
            late,
            first_event: seen.first_event,
            latency: seen.due.elapsed(),
            end,
            events: seen.events,
            positions: seen.positions,
            position_grew: seen.position_grew,
            spent: seen.spent,
        }
    }
}

/// What was seen of a request so far.
pub(super) struct Seen {
    due: Instant,
    first_event: Option<Duration>,
    events: u32,
    positions: u32,
    position: Option<u32>,
    position_grew: bool,
    pub(super) spent: Option<Spent>,
}

impl Seen {
    fn new(due: Instant) -> Self {
        Self { due, first_event: None, events: 0, positions: 0, position: None, position_grew: false, spent: None }
    }

    pub(super) fn event(&mut self) {
        self.events += 1;
        if self.first_event.is_none() {
            self.first_event = Some(self.due.elapsed());
        }
    }

    pub(super) fn position(&mut self, position: u32) {
        self.positions += 1;
        self.position_grew |= self.position.is_some_and(|before| position > before);
        self.position = Some(position);
    }

    /// The end that a status is.
    pub(super) fn status(&self, status: &Status) -> End {
        match self.first_event {
            Some(_) => End::Failed(status.code()),
            None => End::Refused(status.code(), status.get_details_retry_info().and_then(|info| info.retry_delay)),
        }
    }

    /// All is there but the stream's own end. Streams that are dropped before it are reset, which a connection stands only so often.
    pub(super) async fn over<T>(&self, stream: &mut Streaming<T>) {
        _ = stream.message().await;
    }

    /// The end of a stream that ended too early.
    pub(super) fn broken_off(&self) -> End {
        End::Failed(Code::Unknown)
    }
}

/// The priority as a message has it.
pub(super) fn number(priority: Priority) -> i32 {
    priority as i32
}
