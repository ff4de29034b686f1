//! Tensors that checkpoints carry and no network reads: schedules, averages, training losses, CLIP's other half.

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
const FAMILIES: [&str; 7] = [
    "model_ema.",
    "first_stage_model.loss.",
    "cond_stage_model.logit_scale",
    "cond_stage_model.text_projection",
    "vision_model.",
    "visual_projection.",
    "text_projection.",
];

/// Whether a tensor, by its name in the file, is known to be of no use for making pictures.
pub(in crate::weights) fn is_known_extra(name: &str) -> bool {
    SCHEDULE.contains(&name)
        || FAMILIES.iter().any(|family| name.starts_with(family))
        // CLIP's constant 0, 1, 2, …, and its temperature.
        || name.ends_with("embeddings.position_ids")
        || name.ends_with("logit_scale")
}
