"""The linear map from latents to the mean colours of their 8×8 pixels, for previews: least squares over drawn scenes."""

from itertools import islice

import torch

from autoencoder import tensor
from data import captioned
from world.render import render

FITTED, HELD_OUT = 200, 40


@torch.no_grad()
def fit(vae: torch.nn.Module) -> dict:
    """Three weights a latent channel and a bias, for scaled latents and colours of -1 to 1. Prints the error on scenes that were not fitted."""
    pictures = tensor([render(scene) for scene, _ in islice(captioned(51, 0.5), FITTED + HELD_OUT)])
    latents = torch.cat([vae.encode(batch).latent_dist.mean for batch in pictures.split(8)]) * vae.config.scaling_factor
    colours = torch.nn.functional.avg_pool2d(pictures, 8)
    rows = lambda values: values.permute(0, 2, 3, 1).flatten(1, 2).double()
    inputs = torch.nn.functional.pad(rows(latents), (0, 1), value=1.0)
    fitted = torch.linalg.lstsq(inputs[:FITTED].flatten(0, 1), rows(colours[:FITTED]).flatten(0, 1)).solution
    error = (inputs[FITTED:] @ fitted - rows(colours[FITTED:])).pow(2).mean().sqrt()
    print(f"previews: root mean square error on {HELD_OUT} other pictures {error:.4f}")
    *weights, bias = [[round(number, 5) for number in row] for row in fitted.tolist()]
    return {"weights": weights, "bias": bias}
