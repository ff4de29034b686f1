//! `darkroom img2img` and `darkroom inpaint`: what picture to begin from, and how the rest differs from `txt2img`.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::ValueEnum;
use darkroom_client::{GenerateRequest, Model, StrengthWay};

use crate::failure::Failure;
use crate::txt2img::flags::{Flags, share};
use crate::txt2img::reference::no_folder;
use crate::txt2img::sweep::Plan;

/// Of the picture and the mask together: more does not fit into a request.
const MOST_BYTES: u64 = 24 << 20;
/// What the reference's scripts/img2img.py has for `--scale`, where its scripts/txt2img.py has 7.5.
const REFERENCE_SCALES: [f64; 2] = [5.0, 7.5];

/// The flags of `darkroom img2img`.
#[derive(Debug, clap::Args)]
pub(crate) struct Img2img {
    #[command(flatten, next_help_heading = "Picture to begin from")]
    init: InitFlags,
    #[command(flatten)]
    pub(crate) flags: Flags,
}

/// The flags of `darkroom inpaint`.
#[derive(Debug, clap::Args)]
pub(crate) struct Inpaint {
    #[command(flatten, next_help_heading = "Picture to begin from")]
    init: InitFlags,
    /// What to make anew: a picture that is white there and black elsewhere; grey is in between.
    #[arg(long, visible_alias = "mask", value_name = "FILE", help_heading = "Picture to begin from")]
    mask_image: PathBuf,
    /// The reference's script goes through a folder; here it is refused with what to say instead.
    #[arg(long = "indir", value_name = "DIR", hide = true, value_parser = no_folder)]
    _indir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) flags: Flags,
}

#[derive(Debug, clap::Args)]
pub(crate) struct InitFlags {
    /// The picture: a PNG, JPEG or WebP file. Without --width and --height the result has its size, rounded down to multiples of 32.
    #[arg(long, visible_alias = "init-image", value_name = "FILE")]
    init_img: PathBuf,
    /// How much of it is lost to noise: more than 0, to 1, which leaves nothing. Without it 0.75, and 1 for inpaint.
    #[arg(long, value_name = "X", value_parser = share)]
    strength: Option<f64>,
    /// What the strength means to the steps: as the reference's script has it (with the sampler ddim) or as diffusers' pipeline has it.
    /// Without it the reference's where that can be.
    #[arg(long, value_name = "WAY", value_enum)]
    strength_way: Option<Way>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    Compvis,
    Diffusers,
}

/// How a command's requests differ from each other's: what no flag says.
#[derive(Debug, Default)]
pub(crate) struct Recipe {
    /// Where pictures go.
    pub(crate) outdir: &'static str,
    /// The sampler, where no flag names one; `None`: the model's own.
    pub(crate) sampler: Option<&'static str>,
    /// Whether the reference's scale for image modification stands in for its scale for text.
    img2img_scale: bool,
    init: Option<Init>,
    /// What varies, for `darkroom sweep`.
    pub(crate) sweep: Option<Plan>,
}

#[derive(Debug)]
struct Init {
    image: Bytes,
    mask: Option<Bytes>,
    strength: Option<f64>,
    way: Option<Way>,
}

impl Recipe {
    /// `darkroom txt2img`.
    pub(crate) fn txt2img() -> Self {
        Self { outdir: "outputs/txt2img-samples", ..Self::default() }
    }

    /// `darkroom img2img`.
    ///
    /// # Errors
    /// When the picture cannot be read.
    pub(crate) fn img2img(init: &InitFlags) -> Result<Self, Failure> {
        let init = init.read(None)?;
        Ok(Self {
            outdir: "outputs/img2img-samples",
            sampler: Some("ddim"),
            img2img_scale: true,
            init: Some(init),
            sweep: None,
        })
    }

    /// `darkroom sweep`: the same with some of it varied.
    pub(crate) fn swept(self, plan: Plan) -> Self {
        Self { outdir: "outputs/sweep-samples", sweep: Some(plan), ..self }
    }

    /// The request with all that this recipe adds.
    pub(crate) fn season(
        &self,
        mut request: GenerateRequest,
        scale_said: bool,
        model: Option<&Model>,
    ) -> GenerateRequest {
        let [image_scale, text_scale] = REFERENCE_SCALES;
        // A model with a default of its own knows better.
        let usual = model.is_some_and(|model| model.defaults.guidance_scale == text_scale);
        if self.img2img_scale && usual && !scale_said {
            request = request.guidance_scale(image_scale);
        }
        let Some(init) = &self.init else { return request };
        request = request.init_image(init.image.clone());
        if let Some(mask) = &init.mask {
            request = request.mask_image(mask.clone());
        }
        if let Some(strength) = init.strength {
            request = request.strength(strength);
        }
        match init.way {
            Some(Way::Compvis) => request.strength_way(StrengthWay::CompVis),
            Some(Way::Diffusers) => request.strength_way(StrengthWay::Diffusers),
            None => request,
        }
    }
}

impl Img2img {
    /// The flags that all commands have, and the rest.
    ///
    /// # Errors
    /// When the picture cannot be read.
    pub(crate) fn into_parts(self) -> Result<(Flags, Recipe), Failure> {
        let recipe = Recipe::img2img(&self.init)?;
        Ok((self.flags, recipe))
    }
}

impl Inpaint {
    /// As [`Img2img::into_parts`].
    ///
    /// # Errors
    /// When the picture or the mask cannot be read.
    pub(crate) fn into_parts(self) -> Result<(Flags, Recipe), Failure> {
        let init = self.init.read(Some(&self.mask_image))?;
        let recipe = Recipe { outdir: "outputs/inpainting-samples", init: Some(init), ..Recipe::default() };
        Ok((self.flags, recipe))
    }
}

impl InitFlags {
    fn read(&self, mask: Option<&Path>) -> Result<Init, Failure> {
        let mut left = MOST_BYTES;
        Ok(Init {
            image: read("--init-img", &self.init_img, &mut left)?,
            mask: mask.map(|path| read("--mask-image", path, &mut left)).transpose()?,
            strength: self.strength,
            way: self.strength_way,
        })
    }
}

/// The file, if it has no more than `left` bytes, which become less by it.
fn read(flag: &str, path: &Path, left: &mut u64) -> Result<Bytes, Failure> {
    let failed = |error| Failure::Usage(format!("{flag}: cannot read {}: {error}", path.display()));
    let bytes = std::fs::metadata(path).map_err(failed)?.len();
    let Some(rest) = left.checked_sub(bytes) else {
        let (mib, most) = (bytes.div_ceil(1 << 20), MOST_BYTES >> 20);
        let what = format!("{flag}: {} has {mib} MiB; picture and mask may have {most} MiB together", path.display());
        return Err(Failure::Usage(what));
    };
    *left = rest;
    Ok(std::fs::read(path).map_err(failed)?.into())
}
