"""Muon: momentum whose matrices are made orthogonal before each step (Jordan et al., "Muon: An optimizer for hidden layers in neural networks",
2024), with the step sizes of "Muon is Scalable for LLM Training" (Liu et al., 2025, equation 4), so that AdamW's learning rates fit.

The workers share the matrices out among themselves. A convolution is the matrix of its output channels by everything else.
"""

import torch
import torch.distributed as dist

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic Newton-Schulz iteration, from the first of those sources."""
ITERATIONS = 5


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Nearly the closest matrix with singular values of 1."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).bfloat16()
    x = x / (x.norm() + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return (x.T if tall else x).float()


class Muon(torch.optim.Optimizer):
    """For parameters of two dimensions and more."""

    def __init__(self, parameters: list[torch.nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        rank, workers = dist.get_rank(), dist.get_world_size()
        for group in self.param_groups:
            updates = []
            for number, parameter in enumerate(group["params"]):
                moving = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                moving.mul_(group["momentum"]).add_(parameter.grad)
                if number % workers == rank:
                    ahead = parameter.grad.add(moving, alpha=group["momentum"]).flatten(1)
                    updates.append((0.2 * max(ahead.shape) ** 0.5 * orthogonal(ahead)).reshape(-1))
                else:
                    updates.append(torch.zeros(parameter.numel()))
            flat = torch.cat(updates)
            dist.all_reduce(flat)
            offset = 0
            for parameter in group["params"]:
                update = flat[offset : offset + parameter.numel()].view(parameter.shape)
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"])
                offset += parameter.numel()
