"""Fits `latent_rgb.json`: the linear map from this model's latents to the colours of their 8x8 pixels, for previews.

    pip install torch diffusers numpy pillow    # made with torch 2.15, diffusers 0.42.1
    python deploy/models/pocket/fit_latent_rgb.py

Least squares over drawn pictures of the kind the model knows: flat shapes on flat backgrounds. It prints the error on
pictures that were not fitted, in levels of -1..1.
"""

import json
import random
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image, ImageDraw

HERE = Path(__file__).parent
SIDE, FACTOR, FITTED, HELD_OUT = 128, 8, 200, 40
COLOURS = ["#dc2626", "#28a046", "#2850d7", "#fadc32", "#fa8719", "#913cb9", "#ffffff", "#0f0f0f", "#828282"]


def picture(rng: random.Random) -> np.ndarray:
    background, *colours = rng.sample(COLOURS, 4)
    image = Image.new("RGB", (SIDE, SIDE), background)
    draw = ImageDraw.Draw(image)
    for colour in colours[: rng.randint(1, 3)]:
        x, y, r = rng.uniform(20, 108), rng.uniform(20, 108), rng.uniform(14, 30)
        shape = rng.choice([draw.ellipse, draw.rectangle])
        shape((x - r, y - r, x + r, y + r), fill=colour)
    return np.asarray(image, np.float32).transpose(2, 0, 1) / 127.5 - 1


def main() -> None:
    vae = AutoencoderKL.from_pretrained(HERE / "vae", torch_dtype=torch.float32).eval()
    rng = random.Random(7)
    pixels = torch.from_numpy(np.stack([picture(rng) for _ in range(FITTED + HELD_OUT)]))
    with torch.no_grad():
        latents = torch.cat([vae.encode(batch).latent_dist.mean for batch in pixels.split(8)]) * vae.config.scaling_factor
    colours = torch.nn.functional.avg_pool2d(pixels, FACTOR)
    rows = lambda tensor: tensor.permute(0, 2, 3, 1).flatten(1, 2).double()
    inputs = torch.nn.functional.pad(rows(latents), (0, 1), value=1.0)
    fitted = torch.linalg.lstsq(inputs[:FITTED].flatten(0, 1), rows(colours[:FITTED]).flatten(0, 1)).solution
    error = (inputs[FITTED:] @ fitted - rows(colours[FITTED:])).pow(2).mean().sqrt()
    print(f"root mean square error on {HELD_OUT} other pictures: {error:.4f}")
    *weights, bias = [[round(number, 5) for number in row] for row in fitted.tolist()]
    (HERE / "latent_rgb.json").write_text(json.dumps({"weights": weights, "bias": bias}) + "\n")


if __name__ == "__main__":
    main()
