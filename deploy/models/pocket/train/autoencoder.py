"""Stage `autoencoder`: learns to write 8×8 pixels as four numbers and to read them back.

The first three latent channels are tied to the mean colour of their pixels. That makes the autoencoder converge much faster, keeps the
channels of one size, makes previews a linear map, and leaves the denoiser a picture of 16×16 instead of a code to learn.
"""

import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import networks
import parallel
from training import Average, Checkpoint, cosine, descend, short_products
from world.palette import SIDE
from world.render import render
from world.scenes import Draw

STEPS, RATE, BATCH = 6000, 3e-3, 8
CROP = 64
"""Most steps look at cut-outs of this side around objects, where all the edges are."""
WHOLE_EVERY, WHOLE_BATCH, WHOLE_FROM = 6, 2, 0.9
KL, ANCHOR = 3e-4, 0.3
COLOUR_SCALE = 2.0
"""The tied channels are this many times the mean colours of -1 to 1."""


def tensor(pictures: list[np.ndarray]) -> torch.Tensor:
    """`(n, 3, h, w)` of -1 to 1."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1


def cut(rng: random.Random, draw: Draw) -> np.ndarray:
    scene = draw.scene()
    one = rng.choice(scene.objects)
    reach = CROP // 2 - 2 + one.radius * 0.4
    if scene.land:
        reach = SIDE
    corner = lambda middle: int(np.clip(middle - CROP / 2 + rng.uniform(-reach, reach), 0, SIDE - CROP))
    x, y = corner(one.x), corner(one.y)
    return render(scene)[y : y + CROP, x : x + CROP]


@torch.no_grad()
def quality(vae: torch.nn.Module, pictures: torch.Tensor) -> str:
    errors, latents = [], []
    for batch in pictures.split(16):
        mode = vae.encode(batch).latent_dist.mode()
        errors.append((vae.decode(mode).sample.clamp(-1, 1) - batch).pow(2).mean((1, 2, 3)) / 4)
        latents.append(mode)
    decibels = -10 * torch.log10(torch.cat(errors))
    return f"PSNR {decibels.mean():.2f} dB, worst {decibels.min():.2f}; latents' deviation {torch.cat(latents).std():.3f}"


def train(rank: int, folder: Path) -> None:
    torch.manual_seed(0)
    vae = networks.autoencoder().to(memory_format=torch.channels_last)
    average = Average(vae, 0.998)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=1e-4)
    checkpoint = Checkpoint(folder / "autoencoder.resume", vae=vae, average=average.module, optimizer=optimizer)
    first = checkpoint.resume()
    seed = 1000 * rank + first
    torch.manual_seed(seed)
    rng = random.Random(seed)
    draw = Draw(rng, basic=0.3)
    others = tensor([render(draw.scene()) for _ in range(96)])
    start, loss_mean = time.monotonic(), 0.0
    for step in range(first, STEPS):
        if step % WHOLE_EVERY == WHOLE_EVERY - 1 or step > WHOLE_FROM * STEPS:
            pictures = tensor([render(draw.scene()) for _ in range(WHOLE_BATCH)])
        else:
            pictures = tensor([cut(rng, draw) for _ in range(BATCH)])
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        with short_products():
            posterior = vae.encode(pictures).latent_dist
            restored = vae.decode(posterior.sample()).sample
        error = restored.float() - pictures
        mean, logvar = posterior.mean.float(), posterior.logvar.float()
        kl = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
        anchor = (mean[:, :3] - COLOUR_SCALE * F.avg_pool2d(pictures, 8)).pow(2).mean()
        loss = error.abs().mean() + error.pow(2).mean() + KL * kl + ANCHOR * anchor
        descend(loss, cosine(step, STEPS, RATE, 100), 1.0, optimizer)
        average.update(vae, step)
        loss_mean = 0.98 * loss_mean + 0.02 * error.abs().mean().item()
        if rank == 0 and step % 100 == 99:
            more = quality(average.module, others) if step % 1000 == 999 else ""
            print(f"{time.monotonic() - start:6.0f} s  step {step + 1}  L1 {loss_mean:.4f}  kl {kl:.2f}  anchor {anchor:.4f}  {more}", flush=True)
        if rank == 0:
            checkpoint.save(step + 1)
    if rank == 0:
        checkpoint.finish(average.module)


def main(folder: Path) -> None:
    parallel.run(train, folder)
