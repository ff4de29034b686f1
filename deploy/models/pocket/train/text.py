"""Stage `text`: teaches the text encoder to make the scene readable from the embeddings of the padding behind a caption.

It stays as it is from then on. A text encoder that learns together with the denoiser learns too little from it in the time there is; this
one is asked directly, by a linear layer that is thrown away.
"""

import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from transformers import CLIPTokenizer

import networks
import parallel
from data import captioned, token_ids
from training import Checkpoint, cosine, descend
from world.slots import CLASSES, PLACES, table

STEPS, RATE, BATCH = 4000, 2e-3, 64
CAPTIONS, BASIC = 60_000, 0.4
FIRST = 32
"""No caption is longer; from this position on, position p tells of place (p - FIRST) modulo the number of places."""
AT_ONCE = 12
"""Padding positions that a step asks."""
EMPTY = 2
"""Captions of a batch that are left empty."""


def tables(scenes: list) -> torch.Tensor:
    return torch.from_numpy(np.stack([table(scene) for scene in scenes]))


class Reader(torch.nn.Module):
    """Reads the attributes of a place from one embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(networks.WIDTH, sum(CLASSES))

    def forward(self, encoder: torch.nn.Module, ids: torch.Tensor, positions: torch.Tensor, wanted: torch.Tensor) -> tuple:
        """The loss, and which attributes were read as wanted: `(n, positions, attributes)`."""
        end = ids[0, -1].item()
        ids = torch.cat([ids, torch.full((len(ids), len(positions)), end)], 1)
        places = torch.cat([torch.arange(FIRST), positions])[None].expand(len(ids), -1)
        hidden = encoder(input_ids=ids, position_ids=places).last_hidden_state[:, FIRST:]
        wanted = wanted[:, (positions - FIRST) % len(PLACES)]
        scores = self.linear(hidden).split(CLASSES, -1)
        loss = sum(F.cross_entropy(score.flatten(0, 1), wanted[..., i].flatten()) for i, score in enumerate(scores))
        return loss, torch.stack([score.argmax(-1) == wanted[..., i] for i, score in enumerate(scores)], -1)


def train(rank: int, folder: Path) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    torch.manual_seed(0)
    encoder, reader = networks.text_encoder(tokenizer).train(), Reader()
    for name, parameter in encoder.named_parameters():
        if "embedding" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    parameters = [*encoder.parameters(), *reader.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    checkpoint = Checkpoint(folder / "text.resume", encoder=encoder, reader=reader, optimizer=optimizer)
    first = checkpoint.resume()
    scenes, captions = zip(*islice(captioned(21 + rank, BASIC), CAPTIONS))
    ids, wanted = token_ids(tokenizer, list(captions), FIRST), tables(scenes)
    unseen, unseen_captions = zip(*islice(captioned(22, BASIC, unseen=True), 500))
    unseen_ids, unseen_wanted = token_ids(tokenizer, list(unseen_captions), FIRST), tables(unseen)
    empty = token_ids(tokenizer, [""], FIRST)
    torch.manual_seed(1000 * rank + first)
    start = time.monotonic()
    for step in range(first, STEPS):
        chosen = torch.randint(len(ids), (BATCH,))
        batch, labels = ids[chosen], wanted[chosen]
        batch[:EMPTY], labels[:EMPTY] = empty, 0
        positions = torch.randperm(networks.TOKENS - FIRST)[:AT_ONCE].sort().values + FIRST
        loss, _ = reader(encoder, batch, positions, labels)
        descend(loss, cosine(step, STEPS, RATE, 100), 1.0, optimizer)
        if rank == 0 and step % 200 == 199:
            with torch.no_grad():
                _, right = reader(encoder.eval(), unseen_ids, torch.arange(FIRST, FIRST + len(PLACES)), unseen_wanted)
            encoder.train()
            whole = 100 * right.flatten(1).all(1).float().mean()
            print(f"{time.monotonic() - start:6.0f} s  step {step + 1}  loss {loss:.4f}  scenes read whole {whole:.1f} %", flush=True)
        if rank == 0:
            checkpoint.save(step + 1)
    if rank == 0:
        checkpoint.finish(encoder)


def main(folder: Path) -> None:
    parallel.run(train, folder)
