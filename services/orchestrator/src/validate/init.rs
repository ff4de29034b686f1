//! The fields of a request that begins from a picture.

use darkroom_proto::v1::{GenerateRequest, StrengthWay};

use super::{Limits, Refusal, refuse};
use crate::job::{Init, Job};
use crate::model::Model;

/// As the reference and diffusers' pipeline have it.
const STRENGTH: f64 = 0.75;
/// As diffusers' inpainting pipeline has it.
const MASKED_STRENGTH: f64 = 1.0;
/// Sides that are not said are the picture's own, rounded down to multiples of this: the reference's `load_img`.
const SIDE_MULTIPLE: u32 = 32;

/// Width and height: as they were said, else the picture's own, else the model's default.
///
/// # Errors
/// When the picture's own are not allowed.
pub(super) fn size(
    request: &GenerateRequest,
    model: &Model,
    limits: Limits,
    init_size: Option<[u32; 2]>,
) -> Result<[u32; 2], Refusal> {
    let said = [request.width, request.height];
    let Some(own) = init_size else {
        return Ok([said[0].unwrap_or(model.defaults.width), said[1].unwrap_or(model.defaults.height)]);
    };
    let multiple = SIDE_MULTIPLE.next_multiple_of(model.side_multiple);
    let (low, high) = (model.min_side, model.max_side.min(limits.max_side));
    let rounded = own.map(|side| side - side % multiple);
    let allowed = |(said, side): (&Option<u32>, &u32)| said.is_some() || (low..=high).contains(side);
    if !said.iter().zip(&rounded).all(allowed) {
        let [width, height] = own;
        let message = format!("is {width}x{height} pixels, say a width and a height from {low} to {high} for it");
        return refuse("init_image", message);
    }
    Ok([said[0].unwrap_or(rounded[0]), said[1].unwrap_or(rounded[1])])
}

/// What a request says of the picture that it begins from.
pub(super) struct Asked {
    init_image: bool,
    mask_image: bool,
    strength: Option<f64>,
    way: i32,
}

impl Asked {
    pub(super) fn of(request: &GenerateRequest) -> Self {
        Self {
            init_image: !request.init_image.is_empty(),
            mask_image: !request.mask_image.is_empty(),
            strength: request.strength,
            way: request.strength_way,
        }
    }

    /// Checked against a `job` whose other fields are.
    pub(super) fn init(&self, job: &Job, model: &Model) -> Result<Option<Init>, Refusal> {
        let Ok(way) = StrengthWay::try_from(self.way) else {
            return refuse("strength_way", format!("{} is not known, use COMPVIS or DIFFUSERS", self.way));
        };
        let needs_mask =
            model.inpainting.then_some("this model only repaints: it needs an init_image and a mask_image");
        if !self.init_image {
            if let Some(needs_mask) = needs_mask {
                return refuse("init_image", needs_mask.to_owned());
            }
            let lonely = [
                ("strength", self.strength.is_some()),
                ("mask_image", self.mask_image),
                ("strength_way", way != StrengthWay::Unspecified),
            ];
            return match lonely.into_iter().find(|(_, said)| *said) {
                Some((field, _)) => refuse(field, "is only for requests with an init_image".to_owned()),
                None => Ok(None),
            };
        }
        if let Some(needs_mask) = needs_mask.filter(|_| !self.mask_image) {
            return refuse("mask_image", needs_mask.to_owned());
        }
        if way == StrengthWay::Compvis && job.sampler != "ddim" {
            let message = format!("COMPVIS is only for the sampler ddim, for {} use DIFFUSERS", job.sampler);
            return refuse("strength_way", message);
        }
        let strength = self.strength.unwrap_or(if self.mask_image { MASKED_STRENGTH } else { STRENGTH });
        let strength = super::strength("strength", strength, job.num_inference_steps)?;
        Ok(Some(Init { strength, way, masked: self.mask_image }))
    }
}
