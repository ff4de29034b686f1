"""What the stages' loops share: learning rates, the step itself, short products, an average of the weights, and checkpoints to resume from."""

import copy
import math
import time
from pathlib import Path

import torch

import parallel

HAS_BF16 = any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16"))


def short_products() -> torch.autocast:
    """bf16 where the CPU has instructions for it: half the time. Elsewhere f32, of which bf16 would take eight times the time."""
    return torch.autocast("cpu", torch.bfloat16, enabled=HAS_BF16)


def cosine(step: int, steps: int, peak: float, warmup: int, floor: float = 0.02) -> float:
    """A learning rate that rises in a line for `warmup` steps and falls as a cosine to `floor` times its peak."""
    rise = min(1.0, (step + 1) / warmup)
    return peak * rise * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))


def descend(loss: torch.Tensor, rate: float, clip: float, *optimizers: torch.optim.Optimizer) -> None:
    """One step of all workers together, at this learning rate, with gradients of this norm at most."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    parameters = [parameter for group in groups for parameter in group["params"]]
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    parallel.average_gradients(parameters)
    torch.nn.utils.clip_grad_norm_(parameters, clip)
    for group in groups:
        group["lr"] = rate
    for optimizer in optimizers:
        optimizer.step()


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

    def save(self, step: int) -> None:
        if time.monotonic() - self.saved < self.EVERY_S:
            return
        self.saved = time.monotonic()
        state = {name: part.state_dict() for name, part in self.parts.items()}
        fresh = self.file.with_suffix(".new")
        torch.save({"step": step, **state}, fresh)
        fresh.replace(self.file)

    def finish(self, module: torch.nn.Module) -> None:
        """Leaves the stage's result behind, and nothing to resume."""
        torch.save(module.state_dict(), self.file.with_suffix(".pt"))
        self.file.unlink(missing_ok=True)
