//! Tensors that checkpoints carry and no network reads: schedules, averages, training losses, CLIP's other half.

use std::fmt;

/// Buffers of CompVis' `DDPM` and of its losses; the schedule is computed, never read.
const SCHEDULE: [&str; 14] = [
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "lvlb_weights",
    "logvar",
];

/// Families of names, by their beginning.
const FAMILIES: [(&str, Extra); 7] = [
    ("model_ema.", Extra::Average),
    ("first_stage_model.loss.", Extra::Loss),
    ("cond_stage_model.logit_scale", Extra::Constant),
    ("cond_stage_model.text_projection", Extra::OtherTower),
    ("vision_model.", Extra::OtherTower),
    ("visual_projection.", Extra::OtherTower),
    ("text_projection.", Extra::OtherTower),
];

/// What a tensor is that no network reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Extra {
    /// The exponential moving average of the UNet's weights.
    Average,
    /// Tables of the noise schedule.
    Schedule,
    /// What the autoencoder was trained by.
    Loss,
    /// CLIP's constant 0, 1, 2, …, and its temperature.
    Constant,
    /// What a whole CLIP has beside the tower that is used.
    OtherTower,
}

impl Extra {
    /// What a tensor of a single file, or of a part's own, is by its name there; `None` where a network may read it.
    pub(crate) fn of(name: &str) -> Option<Self> {
        if SCHEDULE.contains(&name) {
            return Some(Self::Schedule);
        }
        if let Some((_, extra)) = FAMILIES.iter().find(|(family, _)| name.starts_with(family)) {
            return Some(*extra);
        }
        let constant = name.ends_with("embeddings.position_ids") || name.ends_with("logit_scale");
        constant.then_some(Self::Constant)
    }
}

impl fmt::Display for Extra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Average => "the moving average (EMA) of the UNet",
            Self::Schedule => "tables of the noise schedule",
            Self::Loss => "what the autoencoder was trained by",
            Self::Constant => "CLIP's constants",
            Self::OtherTower => "CLIP's other half",
        })
    }
}

/// Whether a tensor, by its name in the file, is known to be of no use for making pictures.
pub(in crate::weights) fn is_known_extra(name: &str) -> bool {
    Extra::of(name).is_some()
}
