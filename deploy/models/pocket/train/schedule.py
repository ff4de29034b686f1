"""Stable Diffusion v1's noise schedule, and how the denoiser's training visits it."""

import torch

TIMESTEPS = 1000
ALPHAS_CUMPROD = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, TIMESTEPS, dtype=torch.float64) ** 2, 0).float()
"""`scaled_linear` betas: the betas' square roots are evenly spaced."""
SNR = ALPHAS_CUMPROD / (1 - ALPHAS_CUMPROD)
UNIFORM = 0.4
"""The part of the timesteps that is drawn evenly; the others are drawn around the noise levels where shapes come to be."""
MIDDLE, SPREAD = -0.7, 1.1
"""Mean and deviation of log σ there, σ² = 1 / SNR (Karras et al., 2022, section 5)."""


def density() -> torch.Tensor:
    """The probability of each timestep."""
    log_sigma = -0.5 * SNR.log()
    # Timesteps are not evenly spaced in log σ.
    width = torch.gradient(log_sigma)[0]
    around = torch.exp(-0.5 * ((log_sigma - MIDDLE) / SPREAD) ** 2) * width
    return UNIFORM / TIMESTEPS + (1 - UNIFORM) * around / around.sum()


class Timesteps:
    """Draws timesteps, spread out evenly over each batch."""

    def __init__(self) -> None:
        self.cumulative = density().cumsum(0)

    def draw(self, count: int) -> torch.Tensor:
        places = (torch.arange(count) + torch.rand(count)) / count
        return torch.searchsorted(self.cumulative, places[torch.randperm(count)]).clamp(max=TIMESTEPS - 1)


class Balance(torch.nn.Module):
    """Weighs losses so that every noise level has the same say: by the inverse of the mean loss there (Karras et al., 2024, section 2.2, with
    a moving average in place of a network)."""

    BINS, DECAY = 50, 0.99

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.ones(self.BINS))
        self.register_buffer("seen", torch.zeros(self.BINS))

    def weights(self, timesteps: torch.Tensor) -> torch.Tensor:
        return 1 / self.mean[self.bin(timesteps)].clamp(min=1e-4)

    def update(self, timesteps: torch.Tensor, losses: torch.Tensor) -> None:
        """`losses`: not weighted."""
        bins = self.bin(timesteps)
        for number in bins.unique().tolist():
            of = losses[bins == number].mean()
            # As a plain mean at first.
            self.seen[number] += 1
            self.mean[number].lerp_(of, max(1 - self.DECAY, 1 / self.seen[number].item()))

    def bin(self, timesteps: torch.Tensor) -> torch.Tensor:
        return timesteps * self.BINS // TIMESTEPS

    def table(self) -> str:
        """Mean losses, ten noise levels each."""
        return " ".join(f"{10 ** value:.3f}" for value in self.mean.log10().view(10, -1).mean(1).tolist())
