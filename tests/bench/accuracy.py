"""Darkroom's accuracy in bf16 beside diffusers' own, at full size: errors against diffusers in f32 on the same weights, on a CPU.

    pip install -r tests/bench/requirements.txt
    python tests/bench/accuracy.py DIR [--side 64] [--seeds 5] [--output FILE]

Every seed gives two prompts, latents at three timesteps in one batch, and latents to decode. All inputs are rounded to bf16 first, and
everybody's UNet reads the same text embeddings (the f32 text encoder's), so an error is made by the network that it stands for.
Darkroom computes in `cargo run --release -p darkroom-tests --example full-size`, all seeds in one load.

Prints the relative L2 error of every output, and fails when one of Darkroom's in bf16 is more than 1.05 times diffusers' in bf16,
or one in f32 is over full_size.py's bound, 1e-4. The weights are those of `peers.py` and `golden/full_size.py`: DIR/model.
"""

import argparse
import gc
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

import stages
from full_size import BOUND, REPOSITORY, write_model
from report import row, table_head

TIMESTEPS = (981.0, 501.0, 1.0)
RATIO_BOUND = 1.05
COLUMNS = ("Darkroom f32", "Darkroom bf16", "diffusers bf16")


def inputs(seed: int, side: int) -> dict:
    """As the full-size example reads them, but for the text embeddings."""
    return {
        "token_ids": stages.token_ids(seed).int(),
        "timesteps": torch.tensor(TIMESTEPS),
        "latents": rounded(stages.noise("latents", seed, len(TIMESTEPS), 4, side, side)),
        "scaled_latents": rounded(stages.noise("scaled_latents", seed, 4, side, side) * 0.8),
    }


def rounded(values: torch.Tensor) -> torch.Tensor:
    """To what bf16 holds exactly, as f32."""
    return values.bfloat16().float()


@torch.inference_mode()
def diffusers(folder: Path, precision: str, cases: list) -> list:
    """What diffusers makes of each case, by stage; one network in memory at a time. In f32 the first gives all the others' texts."""
    dtype = stages.DTYPES[precision]
    found = [{} for _ in cases]
    for stage in ("text", "unet", "vae"):
        module = stages.module(folder, stage, precision)
        for case, out in zip(cases, found):
            if stage == "text":
                out[stage] = module(case["token_ids"].long())
                case.setdefault("prompt_embeds", rounded(out[stage]))
            elif stage == "unet":
                # The texts in turn, as the example has it.
                embeds = case["prompt_embeds"][[0, 1, 0]].to(dtype)
                out[stage] = module(case["latents"].to(dtype), case["timesteps"], embeds)
            else:
                out[stage] = module(case["scaled_latents"][None].to(dtype))
        print(f"diffusers {precision} {stage}: done", file=sys.stderr)
        del module
        gc.collect()
    return [{stage: value.float().numpy() for stage, value in out.items()} for out in found]


def darkroom(folder: Path, precision: str, cases: list, work: Path, binary: Path | None) -> list:
    """The same from Darkroom."""
    work.mkdir(parents=True, exist_ok=True)
    files = []
    for seed, case in enumerate(cases):
        given, out = work / f"inputs-{seed}.safetensors", work / f"found-{seed}-{precision}.safetensors"
        save_file({name: np.ascontiguousarray(value.numpy()) for name, value in case.items()}, given)
        files += [given, out]
    cargo = ["cargo", "run", "--release", "-p", "darkroom-tests", "--example", "full-size", "--"]
    command = [binary.resolve()] if binary else cargo
    subprocess.run([*command, "--precision", precision, folder, *files], check=True, cwd=REPOSITORY)
    names = {"text": "prompt_embeds", "unet": "noise_pred", "vae": "decoded"}
    found = [load_file(out) for out in files[1::2]]
    return [{stage: out[name] for stage, name in names.items()} for out in found]


def outputs(case: dict) -> dict:
    """A case's outputs by name: each timestep's noise is one."""
    steps = case["unet"].reshape(len(TIMESTEPS), -1)
    noise = {f"UNet, timestep {timestep:.0f}": step for timestep, step in zip(TIMESTEPS, steps)}
    return noise | {"VAE decoder": case["vae"].reshape(-1), "text encoder": case["text"].reshape(-1)}


def error(found: np.ndarray, wanted: np.ndarray) -> float:
    wanted = wanted.astype(np.float64)
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def table(errors: dict) -> str:
    """Every seed's errors, and their median and worst, output by output; `errors[output][column]` is a list by seed."""
    lines = table_head(["output", "seed", *COLUMNS, "bf16: Darkroom ÷ diffusers"])
    for name, columns in errors.items():
        by_seed = [[columns[column][seed] for column in COLUMNS] for seed in range(len(columns[COLUMNS[0]]))]
        rows = [(str(seed), values) for seed, values in enumerate(by_seed)]
        rows += [("median", [statistics.median(column) for column in zip(*by_seed)])]
        rows += [("worst", [max(column) for column in zip(*by_seed)])]
        for seed, values in rows:
            lines.append(row([name, seed, *(f"{value:.2e}" for value in values), f"{values[1] / values[2]:.3f}"]))
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=Path, help="for the weights and what is computed with them")
    parser.add_argument("--side", type=int, default=64, help="of the latents, a multiple of 8")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--binary", type=Path, help="the built example, instead of cargo run")
    parser.add_argument("--output", type=Path, help="a file for the table")
    arguments = parser.parse_args()
    if arguments.seeds < 1 or arguments.side < 8 or arguments.side % 8:
        parser.error("--seeds: allowed are numbers from 1; --side: multiples of 8 from 8")

    folder, work = arguments.dir.resolve() / "model", arguments.dir.resolve() / "work/accuracy"
    write_model(folder, np.float32)
    cases = [inputs(seed, arguments.side) for seed in range(arguments.seeds)]
    # The reference first: the other ones read its texts.
    wanted = diffusers(folder, "f32", cases)
    found = {
        "diffusers bf16": diffusers(folder, "bf16", cases),
        "Darkroom f32": darkroom(folder, "f32", cases, work, arguments.binary),
        "Darkroom bf16": darkroom(folder, "bf16", cases, work, arguments.binary),
    }

    wanted = [outputs(case) for case in wanted]
    errors = {name: {column: [] for column in COLUMNS} for name in wanted[0]}
    for column, results in found.items():
        for case, reference in zip(results, wanted):
            for name, values in outputs(case).items():
                errors[name][column].append(error(values, reference[name]))
    print(table(errors))
    if arguments.output:
        arguments.output.write_text(table(errors))

    ours, theirs, exact = (
        [value for columns in errors.values() for value in columns[column]]
        for column in ("Darkroom bf16", "diffusers bf16", "Darkroom f32")
    )
    ratios = [one / two for one, two in zip(ours, theirs)]
    print(f"bf16, Darkroom ÷ diffusers: median {statistics.median(ratios):.3f}, worst {max(ratios):.3f}, bound {RATIO_BOUND}")
    print(f"f32: median {statistics.median(exact):.1e}, worst {max(exact):.1e}, bound {BOUND:.0e}")
    return int(max(ratios) > RATIO_BOUND or max(exact) > BOUND)


if __name__ == "__main__":
    sys.exit(main())
