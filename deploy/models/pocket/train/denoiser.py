"""Stage `denoiser`: the UNet learns to predict the noise in a scene's latents from its caption.

Two things keep it from guessing where the caption tells (see README.md): Stable Diffusion's schedule never reaches pure noise, so that the mean
colour shows through even at the last timestep and a UNet learns to read it there instead of in the caption. Therefore some of the noise carries
another scene, of which the caption says nothing, and near the end of the schedule half of the inputs are pure noise.
"""

import time
from pathlib import Path

import torch

import networks
import parallel
from muon import Muon
from schedule import ALPHAS_CUMPROD, Balance, Timesteps
from training import Average, Checkpoint, cosine, descend, short_products

STEPS, RATE, BATCH = 4500, 5e-3, 32
DROPPED = 0.1
"""The part of the captions that is left out, for guidance."""
OTHER, OWN, MOST = 0.3, 0.2, 0.5
"""How often the noise carries another scene, or more or less of its own, and how much of it at most."""
PURE_FROM, PURE = 940, 0.5


def inputs(latents: torch.Tensor, mean: torch.Tensor, dropped: torch.Tensor, timesteps: torch.Tensor) -> tuple:
    """Noisy latents, and the noise in them."""
    count = len(latents)
    column = lambda values: values.view(count, 1, 1, 1)
    noise, kind = torch.randn_like(latents), torch.rand(count)
    amount = torch.rand(count) * MOST * (kind < OTHER + OWN)
    # Without a caption nothing would tell which of the scenes is meant.
    other = (kind < OTHER) & ~dropped
    noise = noise + column(amount) * (torch.where(column(other), latents.roll(1, 0), latents) - mean)
    signal, spread = column(ALPHAS_CUMPROD[timesteps].sqrt()), column((1 - ALPHAS_CUMPROD[timesteps]).sqrt())
    noisy = signal * latents + spread * noise
    pure = (timesteps >= PURE_FROM) & (torch.rand(count) < PURE)
    noisy = torch.where(column(pure), torch.randn_like(latents), noisy)
    return noisy, (noisy - signal * latents) / spread


def train(rank: int, folder: Path) -> None:
    torch.manual_seed(0)
    unet = networks.denoiser().to(memory_format=torch.channels_last).train()
    average, balance = Average(unet, 0.998), Balance()
    matrices = [p for name, p in unet.named_parameters() if p.dim() > 1 and "conv_in" not in name and "conv_out" not in name]
    chosen = {id(parameter) for parameter in matrices}
    others = [parameter for parameter in unet.parameters() if id(parameter) not in chosen]
    muon = Muon(matrices, RATE)
    adam = torch.optim.AdamW(others, lr=RATE, betas=(0.9, 0.99), weight_decay=0.01)
    checkpoint = Checkpoint(folder / "denoiser.resume", unet=unet, average=average.module, balance=balance, muon=muon, adam=adam)
    first = checkpoint.resume()
    data = torch.load(folder / "latents.pt", mmap=True, weights_only=True)
    latents, embeddings, scale = data["latents"], data["embeddings"], data["scaling_factor"]
    mean = latents.float().mean(0, keepdim=True) * scale
    empty = len(embeddings) - 1
    torch.manual_seed(1000 * (rank + 1) + first)
    draw, start = Timesteps(), time.monotonic()
    for step in range(first, STEPS):
        of = torch.randint(len(latents), (BATCH,))
        dropped, timesteps = torch.rand(BATCH) < DROPPED, draw.draw(BATCH)
        noisy, noise = inputs(latents[of].float() * scale, mean, dropped, timesteps)
        texts = embeddings[torch.where(dropped, empty, of)].float()
        with short_products():
            predicted = unet(noisy.contiguous(memory_format=torch.channels_last), timesteps, texts).sample
        losses = (predicted.float() - noise).pow(2).mean((1, 2, 3))
        loss = (losses * balance.weights(timesteps)).mean()
        balance.update(timesteps, losses.detach())
        descend(loss, cosine(step, STEPS, RATE, 100), 2.0, muon, adam)
        average.update(unet, step)
        if rank == 0 and step % 100 == 99:
            print(f"{time.monotonic() - start:6.0f} s  step {step + 1}  losses by noise level {balance.table()}", flush=True)
        if rank == 0:
            checkpoint.save(step + 1)
    if rank == 0:
        checkpoint.finish(average.module)


def main(folder: Path) -> None:
    parallel.run(train, folder)
