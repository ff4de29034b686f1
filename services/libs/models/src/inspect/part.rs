//! One network of a model that is looked at: where it lies, what of it is there, what is not.

use serde::Serialize;
use serde_json::Value;

use super::Amount;
use crate::error::LoadError;
use crate::network::Network;
use crate::outline::{self, Shapes};
use crate::source::{ModelSource, SafetySource};
use crate::weights::{Part, Weights};

/// The most problems of a part that are listed, each a sentence; a file may have thousands of tensors of a wrong shape.
const MOST_PROBLEMS: usize = 20;

/// A network of a model.
#[derive(Debug, Serialize)]
pub struct PartReport {
    /// "text encoder", "UNet", "autoencoder" or "safety checker".
    pub part: String,
    /// The file of its weights; empty where there are none.
    pub file: String,
    /// The tensors that are the network's.
    #[serde(flatten)]
    pub amount: Amount,
    /// Its configuration, as diffusers writes it; of a single file, inferred from the tensors.
    pub config: Option<Value>,
    /// What is missing or does not fit, each in a sentence that names the file and the tensor.
    pub problems: Vec<String>,
    /// How many problems there are beside those.
    pub more_problems: usize,
}

impl PartReport {
    /// Whether nothing is missing and everything fits.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty()
    }
}

/// What was found, and the network if there are weights and a configuration to hold them against.
type Looked = (PartReport, Option<Network>);

pub(super) fn text_encoder(source: &ModelSource) -> Looked {
    let opened = source.text_encoder().and_then(|(config, weights)| {
        Ok((network(Part::TextEncoder, weights, outline::text_encoder(&config))?, Some(config.to_json())))
    });
    look(Part::TextEncoder, opened)
}

pub(super) fn unet(source: &ModelSource) -> Looked {
    let opened = source.unet().and_then(|(config, weights)| {
        Ok((network(Part::Unet, weights, outline::unet(&config))?, Some(config.to_json())))
    });
    look(Part::Unet, opened)
}

pub(super) fn vae(source: &ModelSource) -> Looked {
    let opened = source.vae().and_then(|(config, weights)| {
        Ok((network(Part::Vae, weights, outline::vae(&config))?, Some(config.to_json())))
    });
    look(Part::Vae, opened)
}

pub(super) fn safety_checker(source: &SafetySource) -> Looked {
    let opened = source.open().and_then(|(tower, _, weights)| {
        Ok((network(Part::SafetyChecker, weights, outline::safety_checker(&tower))?, None))
    });
    look(Part::SafetyChecker, opened)
}

fn network(part: Part, weights: Weights, outline: Result<Shapes, LoadError>) -> Result<Network, LoadError> {
    Ok(Network::new(part, weights, outline?))
}

fn look(part: Part, opened: Result<(Network, Option<Value>), LoadError>) -> Looked {
    let mut report = PartReport {
        part: part.to_string(),
        file: String::new(),
        amount: Amount::default(),
        config: None,
        problems: Vec::new(),
        more_problems: 0,
    };
    match opened {
        Ok((network, config)) => {
            report.file = network.weights.file().to_owned();
            report.amount = Amount::of(network.tensors().map(|(_, stored)| stored));
            report.config = config;
            let mut faults = network.faults();
            report.problems = faults.by_ref().take(MOST_PROBLEMS).map(|fault| fault.to_string()).collect();
            report.more_problems = faults.count();
            (report, Some(network))
        }
        Err(error) => {
            report.problems.push(error.to_string());
            (report, None)
        }
    }
}
