"""How often training sees which kind of scene."""

import random

from .scenes import Draw

KINDS = {"single": 0.3, "pair": 0.25, "row": 0.12, "inside": 0.11, "list": 0.11, "landscape": 0.11}


def scenes(rng: random.Random, basic: float) -> Draw:
    """`basic`: the part that the first edition's grammar can tell."""
    return Draw(rng, basic, KINDS)
