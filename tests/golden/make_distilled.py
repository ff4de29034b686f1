"""Makes `tests/golden/distilled/*`: whole pictures of a UNet that was distilled to look at the guidance scale.

    pip install torch diffusers transformers safetensors pillow    # made with torch 2.15, diffusers 0.42.1, transformers 5.23
    python tests/golden/make_distilled.py

`pictures.json` lists them, each with the request that it answers, by diffusers with the seeded tiny model, whose UNet has a
`time_cond_proj_dim` here: LCM by its own pipeline, the other samplers by StableDiffusionPipeline, which embeds the scale too.
"""

import json
from pathlib import Path

import torch
from diffusers import LatentConsistencyModelPipeline, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTokenizer

import seeded
from make_models import SEED, seeded_models
from make_samplers import DEFAULT, make_scheduler

HERE = Path(__file__).parent / "distilled"
TOKENIZER = Path(__file__).parents[2] / "services/libs/models/assets/clip-tokenizer"
PROMPT = "a photograph of an astronaut riding a horse"
SIZE = 64

# Sampler, steps, guidance scale, seed. Scales 1 and 0 are no exceptions here.
PICTURES = [("lcm", 4, 8.5, 61), ("lcm", 8, 1.0, 62), ("plms", 10, 7.5, 63), ("dpmpp_2m", 10, 2.0, 64), ("euler", 10, 0.0, 65)]


def main() -> None:
    torch.set_num_threads(2)
    HERE.mkdir(exist_ok=True)
    text, _, vae = seeded_models("tiny")
    unet = UNet2DConditionModel.from_config(seeded.config("tiny", "unet") | {"time_cond_proj_dim": 32})
    seeded.fill("unet", unet.eval(), SEED)
    parts = {"vae": vae, "text_encoder": text, "tokenizer": CLIPTokenizer.from_pretrained(TOKENIZER), "unet": unet}
    listed = []
    for sampler, steps, scale, seed in PICTURES:
        kind = LatentConsistencyModelPipeline if sampler == "lcm" else StableDiffusionPipeline
        # A single file says nothing of its scheduler.
        pipeline = kind(
            **parts,
            scheduler=make_scheduler(sampler, DEFAULT),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(seed)
        settings = {"num_inference_steps": steps, "guidance_scale": scale}
        image = pipeline(PROMPT, generator=generator, height=SIZE, width=SIZE, **settings).images[0]
        file = f"{sampler}-{seed}.png"
        image.save(HERE / file, optimize=True)
        listed.append({"file": file, "request": {"prompt": PROMPT, "sampler": sampler, "seed": seed, "size": [SIZE, SIZE]} | settings})
    (HERE / "pictures.json").write_text(json.dumps(listed, indent=1) + "\n")


if __name__ == "__main__":
    main()
