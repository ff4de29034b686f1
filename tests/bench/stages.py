"""The three stages as the peers run them: each a PyTorch module that takes plain tensors and gives one, with seeded inputs.

A round of each is what `darkroom bench` calls a round: one guided step of the UNet (two rows, two texts), one decoding of a picture,
two prompts through the text encoder. The peers' UNet projects the text to keys and values in every step, as their pipelines do;
Darkroom does that once a request, before the rounds.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel

sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))

import seeded  # noqa: E402

STAGES = ("unet", "vae", "text")
PRECISIONS = ("bf16", "f32")
DTYPES = {"bf16": torch.bfloat16, "f32": torch.float32}


class UnetStep(torch.nn.Module):
    """latents [2, 4, h, w], timesteps [2], prompt_embeds [2, 77, 768] → noise_pred."""

    def __init__(self, unet):
        super().__init__()
        self.unet = unet

    def forward(self, latents, timesteps, prompt_embeds):
        return self.unet(latents, timesteps, prompt_embeds, return_dict=False)[0]


class VaeDecode(torch.nn.Module):
    """latents [1, 4, h, w] → a picture [1, 3, 8 h, 8 w]."""

    def __init__(self, vae):
        super().__init__()
        self.vae = vae
        # Not needed for decoding: memory that a measurement should not hold.
        del self.vae.encoder

    def forward(self, latents):
        return self.vae.decode(latents / self.vae.config.scaling_factor, return_dict=False)[0]


class TextEncode(torch.nn.Module):
    """Token ids [2, 77] → prompt_embeds [2, 77, 768]."""

    def __init__(self, text_encoder):
        super().__init__()
        self.text_encoder = text_encoder

    def forward(self, token_ids):
        return self.text_encoder(token_ids).last_hidden_state


def module(folder: Path, stage: str, precision: str):
    """The stage with the folder's weights."""
    wrapper, network, part = {
        "unet": (UnetStep, UNet2DConditionModel, "unet"),
        "vae": (VaeDecode, AutoencoderKL, "vae"),
        "text": (TextEncode, CLIPTextModel, "text_encoder"),
    }[stage]
    found = wrapper(network.from_pretrained(folder / part)).eval()
    for parameter in found.parameters():
        # A copy always: weights that stay mapped from their file lie in small pages, and are read more slowly.
        parameter.data = parameter.data.to(DTYPES[precision], copy=True)
    return found


def inputs(stage: str, side: int, seed: int = 0) -> tuple:
    """What a round is given; `side` is the latents'. Floats are f32."""
    if stage == "unet":
        latents = noise("latents", seed, 1, 4, side, side).repeat(2, 1, 1, 1)
        return latents, torch.tensor([501.0, 501.0]), noise("prompt_embeds", seed, 2, 77, 768)
    if stage == "vae":
        return (noise("scaled_latents", seed, 1, 4, side, side) * 0.8,)
    return (token_ids(seed),)


def noise(name: str, seed: int, *shape: int) -> torch.Tensor:
    """Uniform noise of variance one."""
    values = seeded.tensor("input", name, (1, *shape), seed)[0]
    return torch.from_numpy(values * np.float32(np.prod(shape) ** 0.5))


def token_ids(seed: int) -> torch.Tensor:
    """Two prompts: a start, twelve words at random, and ends up to 77."""
    words = np.random.default_rng(seed).integers(320, 49406, (2, 12))
    ids = np.full((2, 77), 49407)
    ids[:, 0], ids[:, 1:13] = 49406, words
    return torch.from_numpy(ids)
