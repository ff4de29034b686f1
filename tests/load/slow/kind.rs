//! The ways to never get on.

use std::fmt;
use std::net::SocketAddr;

use clap::ValueEnum;
use darkroom_proto::v1::{GenerateRequest, OutputFormat};
use prost::Message as _;

use super::frames::{PREFACE, body, head, more_headers, ping, settings};

const GENERATE: &str = "/darkroom.v1.ImageGeneration/Generate";

/// What a peer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Connects and says nothing.
    Silent,
    /// Says half of HTTP/2's preface.
    Preface,
    /// Begins a call's headers, and sends one more from time to time.
    Headers,
    /// Begins a call whose body never comes.
    Body,
    /// Asks for a picture, lets no byte of the answer come, and reads nothing.
    Reader,
}

impl Kind {
    /// What it says when it is connected.
    pub(crate) fn opening(self, address: SocketAddr) -> Vec<u8> {
        let authority = address.to_string();
        match self {
            Self::Silent => Vec::new(),
            Self::Preface => PREFACE[..PREFACE.len() / 2].to_vec(),
            Self::Headers => [PREFACE, &settings(None), &head(&authority, GENERATE, false)].concat(),
            Self::Body => [PREFACE, &settings(None), &head(&authority, GENERATE, true)].concat(),
            Self::Reader => {
                let request = GenerateRequest {
                    prompt: "a small red circle, number 0".into(),
                    width: Some(128),
                    height: Some(128),
                    num_inference_steps: Some(4),
                    sampler: "ddim".into(),
                    output_format: OutputFormat::Latents.into(),
                    ..GenerateRequest::default()
                };
                let (head, body) = (head(&authority, GENERATE, true), body(&request.encode_to_vec()));
                [PREFACE, &settings(Some(0)), &head, &body].concat()
            }
        }
    }

    /// What it says from time to time after that.
    pub(crate) fn trickle(self) -> Vec<u8> {
        match self {
            Self::Silent | Self::Preface | Self::Body => Vec::new(),
            Self::Headers => more_headers(),
            // It cannot see the end of the connection by reading; it sees that nobody takes this.
            Self::Reader => ping(),
        }
    }

    /// Whether it takes what comes, to see the end.
    pub(crate) fn reads(self) -> bool {
        self != Self::Reader
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Silent => "silent",
            Self::Preface => "preface",
            Self::Headers => "headers",
            Self::Body => "body",
            Self::Reader => "reader",
        })
    }
}
