//! What a source holds beside its networks: told, so that nothing is lost unseen.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::error::{LoadError, shown};
use crate::network::Network;
use crate::source::{ModelSource, folder_of};
use crate::weights::folder_tensors;
use crate::weights::names::{Extra, is_useful};

/// The most names that are listed.
const NAMES_SHOWN: usize = 3;

/// Things of one kind that are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// What they are.
    pub what: String,
    /// Their names in the source; none where one thing is meant.
    pub names: Vec<String>,
}

impl LeftOut {
    pub(crate) fn one(what: impl Into<String>) -> Self {
        Self { what: what.into(), names: Vec::new() }
    }
}

impl fmt::Display for LeftOut {
    /// "WHAT (3: first, second, …)".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if self.names.is_empty() {
            return Ok(());
        }
        let first = self.names[..self.names.len().min(NAMES_SHOWN)].join(", ");
        let more = if self.names.len() > NAMES_SHOWN { ", …" } else { "" };
        write!(f, " ({}: {}{more})", self.names.len(), shown(first))
    }
}

/// What no network reads: averages, schedules, training state, and what nobody knows.
pub(crate) fn of<'a>(
    source: &ModelSource,
    networks: impl Iterator<Item = &'a Network> + Clone,
) -> Result<Vec<LeftOut>, LoadError> {
    let mut extras: BTreeMap<Extra, Vec<String>> = BTreeMap::new();
    let mut unknown: Vec<String> = Vec::new();
    let mut beside = Vec::new();
    if let Some(single) = source.single_file() {
        for name in single.of_no_part() {
            match Extra::of(name) {
                Some(extra) => extras.entry(extra).or_default().push(name.to_owned()),
                None => unknown.push(name.to_owned()),
            }
        }
        beside = single.beside().to_vec();
    } else if let Some(files) = source.files() {
        for part in networks.clone().map(|network| network.part) {
            let (_, tensors) = folder_tensors(files, folder_of(part), part)?;
            let useless = tensors.into_iter().map(|(name, _)| name).filter(|name| !is_useful(part, name));
            for name in useless {
                let Some(extra) = Extra::of(&name) else { continue };
                extras.entry(extra).or_default().push(name);
            }
        }
    }
    unknown.extend(networks.flat_map(|network| network.unknown().map(str::to_owned)));
    let mut left: Vec<LeftOut> =
        extras.into_iter().map(|(extra, names)| LeftOut { what: extra.to_string(), names }).collect();
    if !beside.is_empty() {
        left.push(LeftOut { what: "state of the training, beside the weights".into(), names: beside });
    }
    if !unknown.is_empty() {
        left.push(LeftOut { what: "tensors that Stable Diffusion v1 does not have".into(), names: unknown });
    }
    Ok(left)
}
