"""Makes `tests/golden/modified/*`: pictures that were begun from a picture, by the references.

    pip install torch diffusers transformers safetensors pillow    # made with torch 2.15, diffusers 0.42.1, transformers 5.23
    python tests/golden/make_modified.py --compvis CHECKOUT        # of CompVis/stable-diffusion, commit 21f890f

`pictures.json` lists them. Image modification and inpainting by diffusers' pipelines on the embedded model; image modification as
CompVis' scripts/img2img.py does it, with its sampler on the same networks and the noise of one generator (posterior first, then
the latents); inpainting by diffusers with a seeded tiny UNet of nine channels. What is not masked is laid over the result.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPTokenizer

import seeded
from make_models import POCKET, SCHEDULERS, SEED, seeded_models
from make_samplers import DEFAULT, compvis_model, import_compvis, make_scheduler

HERE = Path(__file__).parent / "modified"
INIT = Path(__file__).parent / "models/pocket/plms.png"
TOKENIZER = Path(__file__).parents[2] / "services/libs/models/assets/clip-tokenizer"
PROMPT = "a green star on a white background"
SCALE = 2.0

# Sampler, steps, strength, seed.
IMG2IMG = [
    ("plms", 20, 0.75, 1),
    ("ddim", 20, 0.6, 2),
    ("dpmpp_2m", 20, 0.8, 3),
    ("euler", 10, 1.0, 4),
    ("euler_a", 20, 0.5, 5),
    ("heun", 10, 0.7, 6),
    ("dpm2", 10, 0.55, 7),
    ("unipc", 20, 0.65, 8),
]
COMPVIS = [("ddim", 50, 0.75, 9), ("ddim", 50, 0.3, 10)]
INPAINT = [("plms", 20, 1.0, 11), ("ddim", 20, 0.7, 12), ("heun", 10, 0.8, 13), ("euler_a", 20, 1.0, 14), ("dpmpp_2m", 20, 0.9, 15)]
NINE_CHANNELS = [("plms", 10, 1.0, 16), ("ddim", 10, 0.7, 17), ("euler_a", 10, 0.8, 18)]


def mask(size: int) -> Image.Image:
    """A disc off the centre, not aligned to latents."""
    y, x = np.mgrid[:size, :size]
    disc = (x - 0.55 * size) ** 2 + (y - 0.45 * size) ** 2 < (0.31 * size) ** 2
    return Image.fromarray((disc * 255).astype(np.uint8))


def over(original: Image.Image, result: Image.Image, mask: Image.Image) -> Image.Image:
    return Image.composite(result, original, mask)


def scheduler(pipeline, config, sampler):
    cls, _, options = SCHEDULERS[sampler]
    pipeline.scheduler = cls.from_config(config, **options)


def run(pipeline, steps, strength, seed, **more):
    generator = torch.Generator().manual_seed(seed)
    return pipeline(
        num_inference_steps=steps, strength=strength, guidance_scale=SCALE, generator=generator, **more
    ).images[0]


@torch.no_grad()
def compvis(modules, pipeline, init, n, strength, seed):
    """scripts/img2img.py from the encoding on."""
    ddim, _, util = modules

    def embed(text):
        ids = pipeline.tokenizer(text, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return pipeline.text_encoder(ids)[0]

    source = compvis_model(util, lambda x, t, c: pipeline.unet(x, t, c).sample)
    generator = torch.Generator().manual_seed(seed)
    image = torch.from_numpy(np.array(init).astype(np.float32) / 255.0)[None].permute(0, 3, 1, 2) * 2.0 - 1.0
    factor = pipeline.vae.config.scaling_factor
    latent = pipeline.vae.encode(image).latent_dist.sample(generator) * factor
    sampler = ddim.DDIMSampler(source)
    sampler.make_schedule(ddim_num_steps=n, ddim_eta=0.0, verbose=False)
    t_enc = int(strength * n)
    noise = torch.randn(latent.shape, generator=generator)
    z_enc = sampler.stochastic_encode(latent, torch.tensor([t_enc]), noise=noise)
    samples = sampler.decode(
        z_enc, embed(PROMPT), t_enc, unconditional_guidance_scale=SCALE, unconditional_conditioning=embed("")
    )
    decoded = pipeline.vae.decode(samples / factor).sample
    # 255 * x is rounded here, as everywhere in Darkroom; the script cuts it off.
    return pipeline.image_processor.postprocess(decoded)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compvis", required=True, help="a checkout of CompVis/stable-diffusion")
    checkout = parser.parse_args().compvis
    torch.set_num_threads(2)
    HERE.mkdir(exist_ok=True)
    init, listed = Image.open(INIT).convert("RGB"), []

    def save(kind, way, case, image, size):
        sampler, steps, strength, seed = case
        file = f"{kind}-{sampler}-{seed}.png"
        image.save(HERE / file, optimize=True)
        settings = {"sampler": sampler, "num_inference_steps": steps, "strength": strength, "seed": seed}
        listed.append({"file": file, "kind": kind, "way": way, "size": size} | settings)

    pocket = StableDiffusionImg2ImgPipeline.from_pretrained(POCKET, torch_dtype=torch.float32, safety_checker=None)
    pocket.set_progress_bar_config(disable=True)
    config = pocket.scheduler.config
    for case in IMG2IMG:
        scheduler(pocket, config, case[0])
        save("img2img", "diffusers", case, run(pocket, *case[1:], prompt=PROMPT, image=init), 128)
    modules = import_compvis(checkout)
    for case in COMPVIS:
        save("img2img", "compvis", case, compvis(modules, pocket, init, *case[1:]), 128)

    inpaint = StableDiffusionInpaintPipeline(**pocket.components, requires_safety_checker=False)
    inpaint.set_progress_bar_config(disable=True)
    mask(128).save(HERE / "mask.png", optimize=True)
    for case in INPAINT:
        scheduler(inpaint, config, case[0])
        result = run(inpaint, *case[1:], prompt=PROMPT, image=init, mask_image=mask(128), height=128, width=128)
        save("inpaint", "diffusers", case, over(init, result, mask(128)), 128)

    text, _, vae = seeded_models("tiny")
    unet = UNet2DConditionModel.from_config(seeded.config("tiny", "unet") | {"in_channels": 9})
    seeded.fill("unet", unet.eval(), SEED)
    parts = {"vae": vae, "text_encoder": text, "tokenizer": CLIPTokenizer.from_pretrained(TOKENIZER), "unet": unet}
    nine = StableDiffusionInpaintPipeline(
        **parts, scheduler=inpaint.scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    nine.set_progress_bar_config(disable=True)
    small = init.resize((64, 64), resample=Image.Resampling.LANCZOS)
    small_mask = mask(128).resize((64, 64), resample=Image.Resampling.LANCZOS)
    # What is neither black nor white would be split by diffusers and is blended by Darkroom.
    small_mask = small_mask.point(lambda value: 255 if value >= 128 else 0)
    small_mask.save(HERE / "mask-64.png", optimize=True)
    for case in NINE_CHANNELS:
        # A single file says nothing of its scheduler.
        nine.scheduler = make_scheduler(case[0], DEFAULT)
        result = run(nine, *case[1:], prompt=PROMPT, image=small, mask_image=small_mask, height=64, width=64)
        save("inpaint9", "diffusers", case, over(small, result, small_mask), 64)
    (HERE / "pictures.json").write_text(json.dumps(listed, indent=1) + "\n")


if __name__ == "__main__":
    main()
