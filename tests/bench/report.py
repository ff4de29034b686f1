"""The tables of `peers.py`: figures in, Markdown out."""

import datetime
import statistics
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

TITLES = {
    "unet": "UNet: a guided step, two rows of {side}×{side} latents",
    "vae": "Autoencoder: decoding a picture of {pixels}×{pixels}",
    "text": "Text encoder: two prompts of 77 tokens",
}
NAMES = {"darkroom": "Darkroom", "diffusers": "diffusers", "compile": "torch.compile", "openvino": "OpenVINO"}
PACKAGES = ("torch", "diffusers", "transformers", "openvino")


class Report:
    """Rounds of every engine, precision and stage, and the tables of them."""

    def __init__(self, arguments, repository: Path):
        self.arguments = arguments
        self.repository = repository
        self.rounds: dict = {}
        self.errors: dict = {}
        self.settings: dict = {}

    def add(self, stage: str, engine: str, precision: str, result: dict) -> None:
        key = stage, engine, precision
        if "error" in result:
            self.errors[key] = result["error"]
            return
        self.rounds.setdefault(key, []).append(statistics.median(result["seconds"]))
        chosen = self.settings.setdefault(key, [])
        if result.get("setting") not in [None, *chosen]:
            chosen.append(result["setting"])

    def seconds(self, stage: str, engine: str, precision: str) -> list | None:
        """Of each round; `None` for an engine that did not run, or not in all."""
        key = stage, engine, precision
        return None if key in self.errors else self.rounds.get(key)

    def failed(self, stage: str, engine: str, precision: str) -> bool:
        return (stage, engine, precision) in self.errors

    def stage(self, stage: str) -> str:
        """Every engine's rounds."""
        side, rounds = self.arguments.side, self.arguments.rounds
        numbers = [f"round {number + 1}" for number in range(rounds)]
        lines = [f"### {TITLES[stage].format(side=side, pixels=8 * side)}\n"]
        lines += table_head(["engine", "precision", "setting", *numbers, "median", "÷ Darkroom"])
        for precision in self.arguments.precisions:
            for engine in self.arguments.engines:
                key = stage, engine, precision
                cells = [NAMES[engine], precision, ", ".join(self.settings.get(key, []))]
                if key in self.errors:
                    reason = self.errors[key].replace("|", "\\|")
                    lines.append(row([*cells, f"failed: {reason}", *[""] * (rounds + 1)]))
                    continue
                seconds = self.rounds[key]
                ours = self.ratio(stage, engine, "darkroom", precision)
                lines.append(row([*cells, *map(figure, seconds), figure(statistics.median(seconds)), ratio(ours)]))
        return "\n".join(lines) + "\n"

    def summary(self) -> str:
        """Darkroom against the fastest peer."""
        lines = ["### Darkroom and its fastest peer\n"]
        lines += table_head(["stage", "precision", "Darkroom", "fastest peer", "its seconds", "Darkroom ÷ peer"])
        for stage in self.arguments.only:
            for precision in self.arguments.precisions:
                ours = self.seconds(stage, "darkroom", precision)
                peer = self.fastest_peer(stage, precision)
                if ours is None or peer is None:
                    continue
                theirs = statistics.median(self.rounds[stage, peer, precision])
                against = ratio(self.ratio(stage, "darkroom", peer, precision))
                lines.append(
                    row([stage, precision, figure(statistics.median(ours)), NAMES[peer], figure(theirs), against])
                )
        return "\n".join(lines) + "\n"

    def fastest_peer(self, stage: str, precision: str) -> str | None:
        peers = [engine for engine in self.arguments.engines if engine != "darkroom"]
        ran = [engine for engine in peers if self.seconds(stage, engine, precision)]
        return min(ran, key=lambda engine: statistics.median(self.rounds[stage, engine, precision]), default=None)

    def ratio(self, stage: str, engine: str, other: str, precision: str) -> float | None:
        """The median over the rounds of how much longer `engine` took than `other` in the same round."""
        both = [self.seconds(stage, name, precision) for name in (engine, other)]
        if None in both:
            return None
        return statistics.median(one / two for one, two in zip(*both))

    def circumstances(self) -> str:
        """Where, when and with what."""
        arguments = self.arguments
        versions = ", ".join(f"{name} {version_of(name)}" for name in PACKAGES)
        return (
            f"Seconds, the median of {arguments.steps} steps a round (texts: ten times as many). {cpu_name()}, "
            f"{arguments.threads} threads for every engine; {datetime.date.today().isoformat()}. "
            f"{self.darkroom_version()}; {versions}.\n"
        )

    def darkroom_version(self) -> str:
        commit = output(["git", "-C", self.repository, "describe", "--always", "--dirty", "--exclude", "*"])
        return f"{output([self.arguments.darkroom, '--version']) or 'darkroom'} ({commit or 'no git'})"

    def text(self) -> str:
        """All that is known so far."""
        done = {stage for stage, _, _ in [*self.rounds, *self.errors]}
        stages = [self.stage(stage) for stage in self.arguments.only if stage in done]
        return "\n".join(["# Darkroom beside others\n", self.circumstances(), self.summary(), *stages])


def row(cells) -> str:
    return f"| {' | '.join(cells)} |"


def table_head(names: list) -> list:
    return [row(names), row(["---"] * len(names))]


def figure(seconds: float) -> str:
    """Three digits and more."""
    return f"{seconds:.2f}" if seconds >= 1 else f"{seconds:.4f}"


def ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def cpu_name() -> str:
    """As Linux has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown CPU"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown CPU")


def output(words: list) -> str:
    """What a command prints; nothing where it cannot run."""
    try:
        return subprocess.run([str(word) for word in words], capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""
