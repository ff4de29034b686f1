"""Scenes with captions, drawn from a seed."""

import random
from collections.abc import Iterator

import torch
from transformers import CLIPTokenizer

import networks
from world.captions import canonical, caption
from world.scenes import Draw, Scene, held_out


def captioned(seed: int, basic: float, filled: float = 0.5, unseen: bool = False) -> Iterator[tuple[Scene, str]]:
    """Scenes of training, or those that training never sees, with their captions (canonical ones for the latter)."""
    rng = random.Random(seed)
    draw = Draw(rng, basic, filled)
    while True:
        scene = draw.scene()
        if held_out(scene) == unseen:
            yield scene, canonical(scene) if unseen else caption(rng, scene)


def token_ids(tokenizer: CLIPTokenizer, captions: list[str], length: int = networks.TOKENS) -> torch.Tensor:
    """`(n, length)`, padded with the end token."""
    return torch.tensor(tokenizer(captions, padding="max_length", max_length=length).input_ids)
