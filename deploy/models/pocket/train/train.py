"""Trains the pocket model from nothing: `python train.py --out FOLDER`. Interrupted, it goes on where it was."""

import argparse
import importlib
import time
from pathlib import Path

STAGES = {
    "tokenizer": "tokenizer",
    "autoencoder": "autoencoder.pt",
    "text": "text.pt",
    "latents": "latents.pt",
    "denoiser": "denoiser.pt",
    "decoder": "decoder.pt",
    "export": "model",
}
"""The stages in their order, and what each of them leaves behind."""


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--out", type=Path, required=True, help="folder for the stages' results; those that are there are kept")
    flags.add_argument("--until", choices=STAGES, default=list(STAGES)[-1], help="the last stage to run")
    options = flags.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for stage, result in STAGES.items():
        if (options.out / result).exists():
            print(f"{stage}: there already", flush=True)
        else:
            print(f"{stage} ...", flush=True)
            start = time.monotonic()
            importlib.import_module(stage).main(options.out)
            print(f"{stage}: {(time.monotonic() - start) / 60:.1f} minutes", flush=True)
        if stage == options.until:
            break


if __name__ == "__main__":
    main()
