"""Draws pictures of scenes with diffusers, for the judge: `python evaluate.py --model FOLDER --out FOLDER`.

Half of the scenes are of kinds that training never saw. The judge of the test suite tells how often they are right:

    cargo run --release -p darkroom-tests --bin judge_pictures -- --pictures FOLDER
"""

import argparse
import json
import time
from pathlib import Path

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from PIL import Image

from data import captioned
from world.captions import canonical

BATCH = 25


def scenes(count: int, basic: float, seed: int) -> list:
    """Half of them seen kinds, half unseen."""
    seen, unseen = captioned(808 + seed, basic), captioned(909 + seed, basic, unseen=True)
    return [next(unseen if number % 2 else seen)[0] for number in range(count)]


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("--model", type=Path, required=True, help="a diffusers folder")
    flags.add_argument("--out", type=Path, required=True, help="folder for the pictures and prompts.txt, which has a prompt a line")
    flags.add_argument("--count", type=int, default=500)
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--basic", type=float, default=1.0, help="the part of the scenes that is of the first edition's grammar")
    flags.add_argument("--sampler", choices=["plms", "dpmpp_2m"], default="plms")
    flags.add_argument("--steps", type=int, default=50)
    flags.add_argument("--guidance-scale", type=float, help="left out: the model's")
    options = flags.parse_args()
    guidance_scale = options.guidance_scale or json.loads((options.model / "defaults.json").read_text())["guidance_scale"]
    torch.set_flush_denormal(True)
    pipeline = StableDiffusionPipeline.from_pretrained(options.model, torch_dtype=torch.float32, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    if options.sampler == "dpmpp_2m":
        pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config, algorithm_type="dpmsolver++", solver_order=2)
    prompts = [canonical(scene) for scene in scenes(options.count, options.basic, options.seed)]
    options.out.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    for first in range(0, options.count, BATCH):
        batch = prompts[first : first + BATCH]
        generators = [torch.Generator().manual_seed(first + number) for number in range(len(batch))]
        pictures = pipeline(
            batch,
            num_inference_steps=options.steps,
            guidance_scale=guidance_scale,
            generator=generators,
            height=128,
            width=128,
            output_type="np",
        ).images
        for number, picture in enumerate(pictures, first):
            Image.fromarray((picture * 255).round().astype("uint8")).save(options.out / f"{number:04}.png")
    (options.out / "prompts.txt").write_text("\n".join(prompts) + "\n", encoding="utf-8")
    print(f"{options.count} pictures in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
