//! Which of the ready workers serve together: replicas of one revision and precision in each stage, whose shapes fit.
//!
//! Workers may disagree, as in the middle of an upgrade. Then the groups are served that make a whole model and have the
//! most workers in their scarcest stage; everyone else is *unfit* and gets no work, and is told why. A request keeps to
//! the groups that it began with ([`Pins`]), whatever is chosen later. Where an operator has said which models are served, workers of
//! others are never chosen ([`Accepted`]).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use darkroom_proto::v1::StageInfo;

use crate::model::{Misfit, Model};
use crate::stages::{Info, Stage};

/// Weights and arithmetic: workers of one stage with the same identity are interchangeable.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Identity {
    pub(crate) revision: String,
    pub(crate) precision: String,
}

impl Identity {
    pub(crate) fn of(info: &Info) -> Self {
        let (revision, precision) = said(info);
        Self { revision: revision.to_owned(), precision: precision.to_owned() }
    }

    /// Whether `info` says the same.
    pub(crate) fn is_of(&self, info: &Info) -> bool {
        said(info) == (self.revision.as_str(), self.precision.as_str())
    }
}

/// A worker's revision and precision, as it says them.
fn said(info: &Info) -> (&str, &str) {
    info.common().map(|common| (common.revision.as_str(), common.precision.as_str())).unwrap_or_default()
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short: String = self.revision.chars().take(12).collect();
        write!(f, "revision {short} in {}", self.precision)
    }
}

/// What a request began with, in each stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pins {
    pub(crate) text_encoder: Identity,
    pub(crate) denoiser: Identity,
    pub(crate) vae: Identity,
}

impl Pins {
    pub(crate) fn of(&self, stage: Stage) -> &Identity {
        match stage {
            Stage::TextEncoder => &self.text_encoder,
            Stage::Denoiser => &self.denoiser,
            Stage::Vae => &self.vae,
        }
    }
}

/// Why a ready worker is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("runs {found}, the others run {chosen}")]
    Revision { found: Identity, chosen: Identity },
    #[error("computes in {found}, the others in {chosen}")]
    Precision { found: String, chosen: String },
    #[error("runs the model {found:?}, and its list is for {accepted}")]
    Model { found: String, accepted: String },
}

impl Unfit {
    /// As the `workers` gauge names it.
    pub(crate) fn state(&self) -> &'static str {
        match self {
            Self::Revision { .. } => "misfit_revision",
            Self::Precision { .. } => "misfit_precision",
            Self::Model { .. } => "misfit_model",
        }
    }
}

/// Names of models that workers may tell, by stage.
#[derive(Debug, Clone, Default)]
pub(crate) struct Accepted(Option<[BTreeSet<String>; 3]>);

impl Accepted {
    /// Whatever they run.
    pub(crate) fn anything() -> Self {
        Self(None)
    }

    /// Those of the text encoders, the denoisers and the VAEs.
    pub(crate) fn named(names: [BTreeSet<String>; 3]) -> Self {
        Self(Some(names))
    }

    /// Why a worker that says this is never used; `None` for one that may be.
    pub(crate) fn refuses(&self, info: &Info) -> Option<Unfit> {
        let names = &self.0.as_ref()?[info.stage() as usize];
        let found = info.common().map(|common| common.model.as_str()).unwrap_or_default();
        if names.contains(found) {
            return None;
        }
        let accepted = names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" or ");
        Some(Unfit::Model { found: found.to_owned(), accepted })
    }
}

/// What is served.
#[derive(Debug)]
pub(crate) struct Selection {
    pub(crate) model: Model,
}

impl Selection {
    /// Why this worker is not used; `None` for one that is.
    pub(crate) fn unfit(&self, info: &Info) -> Option<Unfit> {
        let chosen = self.model.pins.of(info.stage());
        if chosen.is_of(info) {
            return None;
        }
        let found = Identity::of(info);
        if found.revision == chosen.revision {
            return Some(Unfit::Precision { found: found.precision, chosen: chosen.precision.clone() });
        }
        Some(Unfit::Revision { found, chosen: chosen.clone() })
    }
}

/// Workers of one stage and one identity.
struct Group<'a> {
    /// What the first of them says; the others say the same of all that matters.
    info: &'a Info,
    count: usize,
    served: bool,
}

impl Group<'_> {
    fn name(&self) -> &str {
        self.info.common().map(|common: &StageInfo| common.model.as_str()).unwrap_or_default()
    }
}

/// Chooses among the ready workers. `served` is what was chosen last: between equals it stays.
///
/// `Ok(None)` when a stage has no worker.
///
/// # Errors
/// [`Misfit`] when no workers of the three stages fit each other.
pub(crate) fn select(infos: &[&Info], served: Option<&Pins>) -> Result<Option<Selection>, Misfit> {
    let [texts, denoisers, vaes] = Stage::ALL.map(|stage| groups(stage, infos, served));
    let mut best: Option<(_, Model)> = None;
    let mut misfit = None;
    for denoiser in &denoisers {
        // The others need to fit the denoiser, not each other.
        let rank = |group: &&Group<'_>| (group.name() == denoiser.name(), group.count, group.served);
        let fitting = |groups: &'_ [Group<'_>], fits: fn(&Info, &Info) -> bool| -> Option<usize> {
            let fitting = (0..groups.len()).filter(|&i| fits(groups[i].info, denoiser.info));
            fitting.max_by_key(|&i| (rank(&&groups[i]), Reverse(i)))
        };
        let (text, vae) = (fitting(&texts, text_fits), fitting(&vaes, vae_fits));
        // Where none fits, any shows what does not.
        let (Some(text), Some(vae)) =
            (text.map(|i| &texts[i]).or(texts.first()), vae.map(|i| &vaes[i]).or(vaes.first()))
        else {
            continue;
        };
        match Model::join(text.info, denoiser.info, vae.info) {
            Ok(model) => {
                let named_alike = [text, vae].iter().filter(|group| group.name() == denoiser.name()).count();
                let scarcest = text.count.min(denoiser.count).min(vae.count);
                let rank = (named_alike, scarcest, denoiser.count, denoiser.served);
                if best.as_ref().is_none_or(|(other, _)| rank > *other) {
                    best = Some((rank, model));
                }
            }
            Err(error) => _ = misfit.get_or_insert(error),
        }
    }
    match (best, misfit) {
        (Some((_, model)), _) => Ok(Some(Selection { model })),
        (None, Some(misfit)) => Err(misfit),
        (None, None) => Ok(None),
    }
}

/// The groups of a stage, in the order of their identities so that the same workers give the same choice.
fn groups<'a>(stage: Stage, infos: &[&'a Info], served: Option<&Pins>) -> Vec<Group<'a>> {
    let mut groups: BTreeMap<(&str, &str), Group<'a>> = BTreeMap::new();
    for &info in infos.iter().filter(|info| info.stage() == stage) {
        let served = served.is_some_and(|pins| pins.of(stage).is_of(info));
        groups.entry(said(info)).or_insert(Group { info, count: 0, served }).count += 1;
    }
    groups.into_values().collect()
}

fn text_fits(text: &Info, denoiser: &Info) -> bool {
    matches!((text, denoiser), (Info::TextEncoder(text), Info::Denoiser(denoiser))
        if text.hidden_size == denoiser.cross_attention_dim)
}

fn vae_fits(vae: &Info, denoiser: &Info) -> bool {
    matches!((vae, denoiser), (Info::Vae(vae), Info::Denoiser(denoiser)) if vae.latent_channels == denoiser.latent_channels)
}

#[cfg(test)]
mod tests;
