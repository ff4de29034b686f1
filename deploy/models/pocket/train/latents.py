"""Stage `latents`: what the autoencoder and the text encoder make of the training scenes, once and for all, and the latents' scale."""

from itertools import islice
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPTokenizer

import networks
import parallel
from autoencoder import tensor
from data import captioned, token_ids
from training import short_products
from world.render import render

SCENES, BASIC, FILLED = 60_000, 0.25, 0.7
"""Patterns and outlines are what the denoiser finds hardest: it sees more of them than a prompt drawn at random has."""
BATCH = 32


@torch.no_grad()
def encode(rank: int, folder: Path) -> None:
    count = SCENES // parallel.WORKERS
    scenes, captions = zip(*islice(captioned(31 + rank, BASIC, FILLED), count))
    captions = list(captions) + ([""] if rank == parallel.WORKERS - 1 else [])
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    text, vae = networks.text_encoder(tokenizer).eval(), networks.autoencoder().eval().to(memory_format=torch.channels_last)
    text.load_state_dict(torch.load(folder / "text.pt", weights_only=True))
    vae.load_state_dict(torch.load(folder / "autoencoder.pt", weights_only=True))
    latents = torch.empty(count, networks.LATENT_CHANNELS, networks.LATENT_SIDE, networks.LATENT_SIDE, dtype=torch.float16)
    embeddings = torch.empty(len(captions), networks.TOKENS, networks.WIDTH, dtype=torch.bfloat16)
    for i in range(0, count, BATCH):
        pictures = tensor([render(scene) for scene in scenes[i : i + BATCH]]).contiguous(memory_format=torch.channels_last)
        with short_products():
            latents[i : i + BATCH] = vae.encode(pictures).latent_dist.mode()
    ids = token_ids(tokenizer, captions)
    for i in range(0, len(ids), BATCH):
        embeddings[i : i + BATCH] = text(input_ids=ids[i : i + BATCH]).last_hidden_state
    torch.save({"latents": latents, "embeddings": embeddings}, folder / f"latents-{rank}.pt")


def main(folder: Path) -> None:
    parallel.run(encode, folder)
    files = [folder / f"latents-{rank}.pt" for rank in range(parallel.WORKERS)]
    parts = [torch.load(file, weights_only=True) for file in files]
    latents, embeddings = (torch.cat([part[name] for part in parts]) for name in ("latents", "embeddings"))
    scale = 1 / latents.float().std().item()
    torch.save({"latents": latents, "embeddings": embeddings, "scaling_factor": scale}, folder / "latents.pt")
    for file in files:
        file.unlink()
    print(f"{len(latents)} scenes; scaling factor {scale:.4f}; deviation of each channel {np.round(latents.float().std((0, 2, 3)).numpy() * scale, 3)}")
