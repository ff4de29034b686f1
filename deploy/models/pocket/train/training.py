"""What the stages' loops share: a schedule of learning rates, an average of the weights, and checkpoints to resume from."""

import copy
import math
import time
from pathlib import Path

import torch


def cosine(step: int, steps: int, peak: float, warmup: int, floor: float = 0.02) -> float:
    """A learning rate that rises in a line for `warmup` steps and falls as a cosine to `floor` times its peak."""
    rise = min(1.0, (step + 1) / warmup)
    return peak * rise * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))


class Average:
    """An exponential moving average of a module's weights, which looks back over fewer steps at first."""

    def __init__(self, module: torch.nn.Module, decay: float):
        self.module, self.decay = copy.deepcopy(module).eval().requires_grad_(False), decay

    @torch.no_grad()
    def update(self, module: torch.nn.Module, step: int) -> None:
        decay = min(self.decay, (step + 1) / (step + 20))
        torch._foreach_lerp_(list(self.module.parameters()), list(module.parameters()), 1 - decay)


class Checkpoint:
    """Everything that a stage needs to go on after an interruption, in one file; written whole or not at all."""

    EVERY_S = 300

    def __init__(self, file: Path, **parts: object):
        self.file, self.parts, self.saved = file, parts, time.monotonic()

    def resume(self) -> int:
        """Takes over what was saved; the step to begin with."""
        if not self.file.exists():
            return 0
        state = torch.load(self.file, weights_only=True)
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        return state["step"]

    def save(self, step: int, always: bool = False) -> None:
        if not always and time.monotonic() - self.saved < self.EVERY_S:
            return
        self.saved = time.monotonic()
        state = {name: part.state_dict() for name, part in self.parts.items()}
        fresh = self.file.with_suffix(".new")
        torch.save({"step": step, **state}, fresh)
        fresh.replace(self.file)
