"""Stage `decoder`: the autoencoder's decoder learns to draw clean shapes from latents that a denoiser made.

It has only seen encoded pictures so far; the denoiser's latents are a little off, and edges become wobbly. So scenes are noised a little,
denoised by the denoiser, and the decoder learns to draw the scene from what came of it. The encoder stays as it is.
"""

import random
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPTokenizer

import networks
import parallel
from autoencoder import tensor
from data import captioned, token_ids
from schedule import ALPHAS_CUMPROD
from training import Average, Checkpoint, cosine, descend, short_products
from world.render import render

STEPS, RATE, BATCH = 1500, 1e-3, 4
SCENES, BASIC, FILLED = 8000, 0.25, 0.7
MOST, LEAST, EVALUATIONS = 350, 40, 5
"""Timesteps to which scenes are noised: shapes must stay where they are. And the evaluations that lead back."""
ENCODED = 0.3
"""The part of the latents that is the encoder's own."""


@torch.no_grad()
def denoised(unet: torch.nn.Module, latents: torch.Tensor, texts: torch.Tensor, start: int) -> torch.Tensor:
    """Noises latents up to the timestep `start` and denoises them by DDIM (Song et al., 2021, equation 12 without noise)."""
    steps = np.linspace(start, 0, EVALUATIONS + 1).round().astype(int)
    alpha = ALPHAS_CUMPROD[steps[0]]
    noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * torch.randn_like(latents)
    for now, then in zip(steps, steps[1:]):
        with short_products():
            noise = unet(noisy, int(now), texts).sample.float()
        clean = (noisy - (1 - ALPHAS_CUMPROD[now]).sqrt() * noise) / ALPHAS_CUMPROD[now].sqrt()
        noisy = ALPHAS_CUMPROD[then].sqrt() * clean + (1 - ALPHAS_CUMPROD[then]).sqrt() * noise if then else clean
    return noisy


@torch.no_grad()
def imitate(rank: int, folder: Path) -> tuple:
    """Scenes with the latents that a denoiser made of them, and with the encoder's."""
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    text, unet = networks.text_encoder(tokenizer).eval(), networks.denoiser().eval().to(memory_format=torch.channels_last)
    vae = networks.autoencoder().eval().to(memory_format=torch.channels_last)
    text.load_state_dict(torch.load(folder / "text.pt", weights_only=True))
    unet.load_state_dict(torch.load(folder / "denoiser.pt", weights_only=True))
    vae.load_state_dict(torch.load(folder / "autoencoder.pt", weights_only=True))
    scale = torch.load(folder / "latents.pt", mmap=True, weights_only=True)["scaling_factor"]
    scenes, captions = zip(*islice(captioned(41 + rank, BASIC, FILLED), SCENES // parallel.WORKERS))
    ids, rng = token_ids(tokenizer, list(captions)), random.Random(rank)
    encoded, made = [], []
    for i in range(0, len(scenes), 32):
        pictures = tensor([render(scene) for scene in scenes[i : i + 32]]).contiguous(memory_format=torch.channels_last)
        with short_products():
            latents = vae.encode(pictures).latent_dist.mode()
        texts = text(input_ids=ids[i : i + 32]).last_hidden_state
        encoded.append(latents.float())
        made.append(denoised(unet, latents.float() * scale, texts, rng.randint(LEAST, MOST)) / scale)
    return scenes, torch.cat(encoded), torch.cat(made)


def train(rank: int, folder: Path) -> None:
    torch.manual_seed(rank)
    scenes, encoded, made = imitate(rank, folder)
    vae = networks.autoencoder().to(memory_format=torch.channels_last)
    vae.load_state_dict(torch.load(folder / "autoencoder.pt", weights_only=True))
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    parameters = [parameter for parameter in vae.parameters() if parameter.requires_grad]
    average = Average(vae, 0.995)
    optimizer = torch.optim.AdamW(parameters, lr=RATE, betas=(0.9, 0.99), weight_decay=1e-4)
    checkpoint = Checkpoint(folder / "decoder.resume", vae=vae, average=average.module, optimizer=optimizer)
    first = checkpoint.resume()
    torch.manual_seed(1000 * rank + first)
    start, mean = time.monotonic(), [0.0, 0.0]
    for step in range(first, STEPS):
        of = torch.randint(len(scenes), (BATCH,))
        own = torch.rand(BATCH) < ENCODED
        latents = torch.where(own.view(-1, 1, 1, 1), encoded[of], made[of])
        pictures = tensor([render(scenes[i]) for i in of.tolist()])
        with short_products():
            drawn = vae.decode(latents.contiguous(memory_format=torch.channels_last)).sample
        error = drawn.float() - pictures
        loss = error.abs().mean() + error.pow(2).mean()
        descend(loss, cosine(step, STEPS, RATE, 50), 1.0, optimizer)
        average.update(vae, step)
        for kind, rows in enumerate((~own, own)):
            if rows.any():
                mean[kind] += (error.detach()[rows].abs().mean().item() - mean[kind]) * max(0.02, 1 / (step + 1))
        if rank == 0 and step % 100 == 99:
            print(f"{time.monotonic() - start:6.0f} s  step {step + 1}  L1 of denoised {mean[0]:.4f}, of encoded {mean[1]:.4f}", flush=True)
        if rank == 0:
            checkpoint.save(step + 1)
    if rank == 0:
        checkpoint.finish(average.module)


def main(folder: Path) -> None:
    parallel.run(train, folder)
