"""Darkroom against diffusers at full size: Stable Diffusion v1 with seeded random weights, in f32 on a CPU.

    pip install torch diffusers transformers safetensors    # run with torch 2.15, diffusers 0.42.1, transformers 5.23
    python tests/golden/full_size.py DIR [--dtype f16] [--side 64] [--device cpu] [--precision f32]

Writes a diffusers folder to DIR/model (4.3 GB in f32, kept for the next run) with the weights of `seeded.py`, runs the text encoder
(two prompts), the UNet (three timesteps in one batch, two texts) and the autoencoder both ways in diffusers, one at a time
so that 16 GB of memory are enough; then the same through `cargo run --release -p darkroom-tests --example full-size`. Prints the
relative L2 error of each as a table, and fails when one is over the bound of f32, 1e-4.
"""

import argparse
import gc
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.numpy import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

import seeded

SEED = 1
BOUND = 1e-4
REPOSITORY = Path(__file__).parents[2]
WEIGHT_FILES = {"text_encoder": "model", "unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}


def network(part: str):
    """A part with v1's configuration and no weights yet."""
    config = seeded.config("v1", part)
    if part == "text_encoder":
        return CLIPTextModel(CLIPTextConfig(**config)).eval()
    return {"unet": UNet2DConditionModel, "vae": AutoencoderKL}[part].from_config(config).eval()


def write_model(folder: Path, dtype) -> None:
    """The seeded weights as a diffusers folder."""
    for part, file in WEIGHT_FILES.items():
        target = folder / part / f"{file}.safetensors"
        if target.exists():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        (target.parent / "config.json").write_text((seeded.CONFIGS / "v1" / f"{part}.json").read_text())
        with torch.device("meta"):
            shapes = {name: tuple(tensor.shape) for name, tensor in network(part).state_dict().items()}
        tensors = {
            name: seeded.tensor(part, name.removeprefix("text_model."), shape, SEED, dtype)
            for name, shape in shapes.items()
            if not name.endswith("position_ids")
        }
        save_file(tensors, target)
    scheduler = folder / "scheduler/scheduler_config.json"
    scheduler.parent.mkdir(exist_ok=True)
    scheduler.write_text((seeded.CONFIGS / "v1/scheduler.json").read_text())
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}\n')


def read_network(folder: Path, part: str):
    """A part with the folder's weights, in f32."""
    module = network(part)
    tensors = load_file(folder / part / f"{WEIGHT_FILES[part]}.safetensors")
    module.load_state_dict({name: torch.from_numpy(value).float() for name, value in tensors.items()})
    return module


def inputs(side: int) -> dict:
    ids = np.full((2, 77), 49407, np.int32)
    ids[:, 0] = 49406
    ids[0, 1:9], ids[1, 1:13] = np.arange(320, 328), np.arange(1000, 49000, 4000)

    def unit(name, *shape):
        return seeded.tensor("input", name, (1, *shape), 0)[0] * np.float32(np.prod(shape) ** 0.5)

    return {
        "token_ids": ids,
        "timesteps": np.array([981.0, 500.5, 1.0], np.float32),
        "latents": unit("latents", 3, 4, side, side),
        "scaled_latents": unit("scaled_latents", 4, side, side) * np.float32(0.8),
        "image": np.tanh(unit("image", 3, 8 * side, 8 * side)),
    }


@torch.no_grad()
def reference(folder: Path, given: dict) -> dict:
    """What diffusers computes; the UNet reads the text encoder's own output."""
    given = {name: torch.from_numpy(value) for name, value in given.items()}
    out = {}
    with timed("text encoder"):
        embeds = read_network(folder, "text_encoder")(given["token_ids"].long()).last_hidden_state
        out["prompt_embeds"] = embeds
    with timed("unet"):
        unet = read_network(folder, "unet")
        out["noise_pred"] = unet(given["latents"], given["timesteps"], embeds[[0, 1, 0]]).sample
        del unet
        gc.collect()
    with timed("autoencoder"):
        vae = read_network(folder, "vae")
        out["decoded"] = vae.decode(given["scaled_latents"][None] / vae.config.scaling_factor).sample[0]
        posterior = vae.encode(given["image"][None]).latent_dist
        out["posterior_mean"], out["posterior_std"] = posterior.mean[0], posterior.std[0]
    return {name: value.contiguous().numpy() for name, value in out.items()}


class timed:
    """Says on standard error how long a part took, loading included."""

    def __init__(self, what: str):
        self.what = what

    def __enter__(self):
        self.began = time.monotonic()

    def __exit__(self, *_):
        print(f"diffusers {self.what}: {time.monotonic() - self.began:.1f} s", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=Path)
    parser.add_argument("--dtype", choices=["f32", "f16"], default="f32", help="of the weights on disk")
    parser.add_argument("--side", type=int, default=64, help="of the latents")
    parser.add_argument("--device", default="cpu", help="where Darkroom runs")
    parser.add_argument("--precision", default="f32", help="what Darkroom runs in; only f32 is held to the bound")
    parser.add_argument("--binary", type=Path, help="the built example, instead of cargo run")
    arguments = parser.parse_args()

    model, work = arguments.dir / "model", arguments.dir / "work"
    work.mkdir(parents=True, exist_ok=True)
    write_model(model, {"f32": np.float32, "f16": np.float16}[arguments.dtype])
    given = inputs(arguments.side)
    save_file(given, work / "inputs.safetensors")
    expected = reference(model, given)

    cargo = ["cargo", "run", "--release", "-p", "darkroom-tests", "--example", "full-size", "--"]
    command = [arguments.binary.resolve()] if arguments.binary else cargo
    options = ["--device", arguments.device, "--precision", arguments.precision]
    files = [work.resolve() / "inputs.safetensors", work.resolve() / "found.safetensors"]
    subprocess.run([*command, *options, model.resolve(), *files], check=True, cwd=REPOSITORY)
    found = load_file(work / "found.safetensors")

    print("| output | shape | relative L2 error |\n| --- | --- | --- |")
    errors = {}
    for name, value in expected.items():
        wanted = value.astype(np.float64)
        errors[name] = np.linalg.norm(found[name].reshape(wanted.shape) - wanted) / np.linalg.norm(wanted)
        print(f"| {name} | {'×'.join(map(str, value.shape))} | {errors[name]:.1e} |")
    return int(arguments.precision == "f32" and max(errors.values()) > BOUND)


if __name__ == "__main__":
    sys.exit(main())
