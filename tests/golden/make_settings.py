"""Makes `tests/golden/settings/*`: whole pictures of settings that diffusers' pipelines leave to their callers.

    pip install torch diffusers transformers safetensors pillow torchsde ninja    # made with torch 2.15, diffusers 0.42.1
    python tests/golden/make_settings.py

`pictures.json` lists them, each with the request that it answers, all by the embedded model in f32 on a CPU: the samplers of k-diffusion
and their noise, spacings of their noise levels, a GPU's noise, variations of a seed, and a second pass over the enlarged picture.
"""

import json
import sys
from pathlib import Path

import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_img2img as img2img
from PIL import Image

from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from make_models import POCKET
from make_noise import Cuda, slerp
from make_samplers import SCHEDULERS, SPACINGS, Path as BrownianPath

HERE = Path(__file__).parent / "settings"
SHAPE = (1, 4, 16, 16)

# Sampler, steps, prompt, and what else is asked for.
PICTURES = [
    ("lms", 20, "a yellow star on a black background", {"seed": 21}),
    ("dpm2_a", 10, "a red square on a white background", {"seed": 22}),
    ("dpmpp_2m_sde", 20, "a blue heart on a gray background", {"seed": 23}),
    ("dpmpp_sde", 10, "two green circles on a purple background", {"seed": 24}),
    ("lcm", 8, "an orange triangle on a blue background", {"seed": 25}),
    ("ddpm", 50, "a white star left of a red circle on a black background", {"seed": 26}),
    ("dpmpp_2m", 20, "a purple square on a yellow background", {"seed": 27, "sigma_spacing": "karras"}),
    ("euler", 15, "a small green heart on a white background", {"seed": 28, "sigma_spacing": "exponential"}),
    ("dpmpp_sde", 10, "a black circle on an orange background", {"seed": 29, "sigma_spacing": "karras"}),
    ("plms", 20, "a blue star on a white background", {"seed": 2**33 + 1, "rng": "cuda"}),
    ("euler_a", 20, "three red circles on a gray background", {"seed": 31, "rng": "cuda"}),
    ("ddim", 20, "a green square on a black background", {"seed": 32, "variation_strength": 0.3, "variation_seed": 5}),
    ("plms", 20, "a green star on a white background", {"seed": 34, "hires": [192, 160, 0.7]}),
    ("euler_a", 10, "a red circle on a blue background", {"seed": 35, "hires": [128, 256, 0.45], "rng": "cuda"}),
    (
        "dpmpp_2m",
        20,
        "a photo of a red heart on a yellow background",
        {"seed": 33, "rng": "cuda", "variation_strength": 0.75, "variation_seed": 2**40},
    ),
]


class Cpu:
    """torch.Generator("cpu")."""

    def __init__(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def randn(self, *shape):
        return torch.randn(shape, generator=self.generator)


def scheduler(config, sampler, spacing, draw):
    """Draws its noise by `draw`."""
    cls, options = SCHEDULERS[sampler]
    if spacing is not None:
        options = options | {SPACINGS[spacing]: True}
    made = cls.from_config(config, **options)
    sys.modules[cls.__module__].randn_tensor = lambda shape, **_: draw(*shape)
    if sampler == "dpmpp_sde":
        path, set_timesteps = BrownianPath(lambda: draw(*SHAPE)), made.set_timesteps

        def set_timesteps_and_noise(*arguments, **named):
            # It forgets its source of noise.
            set_timesteps(*arguments, **named)
            made.noise_sampler = lambda *sigmas: path(*(float(sigma) for sigma in sigmas))

        made.set_timesteps = set_timesteps_and_noise
    return made


def initial(asked, generators):
    latents = generators(asked["seed"]).randn(*SHAPE)
    if "variation_strength" not in asked:
        return latents
    other = generators(asked["variation_seed"]).randn(*SHAPE)
    return slerp(asked["variation_strength"], latents[0], other[0])[None]


def enlarged(pipeline, image, noise, prompt, steps, width, height, strength):
    """Image modification of the picture at another size, with the seed's noise from its start."""

    def draw(shape, **_):
        return noise.randn(*shape)

    def sample(posterior, generator=None):
        return posterior.mean + posterior.std * noise.randn(*posterior.mean.shape)

    sys.modules[type(pipeline.scheduler).__module__].randn_tensor = img2img.randn_tensor = draw
    DiagonalGaussianDistribution.sample = sample
    modify = StableDiffusionImg2ImgPipeline(**pipeline.components, requires_safety_checker=False)
    modify.set_progress_bar_config(disable=True)
    image = image.resize((width, height), resample=Image.Resampling.LANCZOS)
    return modify(prompt, image, strength, num_inference_steps=steps, guidance_scale=2.0).images[0]


def main() -> None:
    torch.set_num_threads(2)
    HERE.mkdir(exist_ok=True)
    pipeline = StableDiffusionPipeline.from_pretrained(POCKET, torch_dtype=torch.float32, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    config, listed = pipeline.scheduler.config, []
    for sampler, steps, prompt, asked in PICTURES:
        generators = Cuda if asked.get("rng") == "cuda" else Cpu
        later = generators(asked["seed"])
        later.randn(*SHAPE)
        pipeline.scheduler = scheduler(config, sampler, asked.get("sigma_spacing"), later.randn)
        # The pipeline multiplies by the scheduler's own init_noise_sigma.
        image = pipeline(prompt, num_inference_steps=steps, guidance_scale=2.0, latents=initial(asked, generators)).images[0]
        if "hires" in asked:
            image = enlarged(pipeline, image, generators(asked["seed"]), prompt, steps, *asked["hires"])
        file = f"{sampler}-{len(listed):02}.png"
        image.save(HERE / file, optimize=True)
        request = {"prompt": prompt, "sampler": sampler, "num_inference_steps": steps, "guidance_scale": 2.0}
        listed.append({"file": file, "request": request | asked})
    (HERE / "pictures.json").write_text(json.dumps(listed, indent=1) + "\n")


if __name__ == "__main__":
    main()
