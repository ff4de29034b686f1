//! The Rust client of Darkroom: connect, generate as a typed stream of events, cancel by dropping it.
//!
//! ```no_run
//! use darkroom_client::{Client, Event, GenerateRequest};
//! use tokio_stream::StreamExt;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("http://127.0.0.1:7000").await?;
//! let request = GenerateRequest::new("a red circle on a white background").seed(42).num_images(2);
//!
//! let mut generation = client.generate(request).await?;
//! while let Some(event) = generation.next().await {
//!     match event? {
//!         Event::Step(step) => eprintln!("picture {}: step {} of {}", step.image_index, step.step, step.of),
//!         Event::Image(image) => std::fs::write(format!("{}.png", image.seed), image.data())?,
//!         Event::Completed(done) => eprintln!("took {:.1} s", done.seconds.total),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Fields that a request leaves out take the model's own defaults; [`Event::Started`] says all settings as they were used.
//! Dropping the [`Generation`] stops the work in every stage before its next evaluation of the network.
//!
//! Errors keep what the server said: [`Error::code`], the fields that it refused ([`Error::field_violations`]) and how long
//! to wait before another try ([`Error::retry_after`]).

mod client;
mod error;
mod event;
mod generation;
#[cfg(feature = "load")]
pub mod load;
mod request;
mod server;
mod tls;
mod trace_context;
mod wire;

pub use client::{Builder, Client};
pub use error::{Error, FieldViolation, Refusal};
pub use event::{
    Completed, Event, Failed, Hires, Image, Latents, Lora, Picture, Preview, Queued, SafetyVerdict, Settings,
    StageSeconds, Step, Variation, Warning,
};
pub use generation::Generation;
pub use request::{GenerateRequest, OutputFormat, Priority, PromptSyntax, Rng, StrengthWay};
pub use server::{Defaults, DenoiserLoad, Model, ServerInfo, StageWorker, Totals};
pub use tls::Tls;
pub use trace_context::TraceContext;

/// The gRPC status code of an [`Error`].
pub use tonic::Code;
