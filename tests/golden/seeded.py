"""Seeded weights: a model's numbers without its files. The same arithmetic, bit for bit, as `tests/testkit/seeded.rs`.

Element i of a tensor is a uniform number in [-1, 1) made of 24 bits of splitmix64 (Steele 2014, "Fast splittable
pseudorandom number generators"), whose key is the FNV-1a hash of "part/tensor name", xor the seed. It is scaled so that
activations keep their size from layer to layer.
"""

import json
import math
from pathlib import Path

import numpy as np

CONFIGS = Path(__file__).parent / "models"
PARTS = ("text_encoder", "unet", "vae")
GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
CHUNK = 1 << 20


def config(name: str, part: str) -> dict:
    """The configuration `name` ("tiny" or "v1") of a part, or its "scheduler"."""
    return json.loads((CONFIGS / name / f"{part}.json").read_text())


def fnv1a(text: str) -> int:
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) % (1 << 64)
    return value


def mix(z: np.ndarray) -> np.ndarray:
    """splitmix64's output function."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def centre_and_spread(name: str, shape: tuple) -> tuple:
    """Norms are near one, biases small; a weight's variance is 1 / fan-in."""
    if name.endswith(".bias"):
        return 0.0, 0.05
    if len(shape) == 1:
        return 1.0, 0.1
    if name.startswith("embeddings."):
        return 0.0, 0.5
    return 0.0, math.sqrt(3.0 / math.prod(shape[1:]))


def tensor(part: str, name: str, shape: tuple, seed: int, dtype=np.float32) -> np.ndarray:
    """The tensor `name` of `part`, by its current diffusers name without `text_model.`."""
    centre, spread = (np.float32(number) for number in centre_and_spread(name, shape))
    key = np.uint64(fnv1a(f"{part}/{name}") ^ seed)
    out = np.empty(math.prod(shape), dtype)
    with np.errstate(over="ignore"):
        for start in range(0, out.size, CHUNK):
            index = np.arange(start + 1, min(start + CHUNK, out.size) + 1, dtype=np.uint64)
            bits = (mix(key + index * GOLDEN_GAMMA) >> np.uint64(40)).astype(np.float32)
            uniform = bits * np.float32(2.0**-23) - np.float32(1.0)
            out[start : start + CHUNK] = centre + uniform * spread
    return out.reshape(shape)


def fill(part: str, module, seed: int, dtype=np.float32) -> None:
    """Gives a PyTorch module its seeded weights, rounded through `dtype`."""
    import torch

    with torch.no_grad():
        for name, target in module.state_dict().items():
            if name.endswith("position_ids"):
                continue
            values = tensor(part, name.removeprefix("text_model."), tuple(target.shape), seed, dtype)
            target.copy_(torch.from_numpy(values))
