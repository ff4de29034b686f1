"""Large pictures through the autoencoder, in bands and undivided: seconds and the most memory, at full size.

    pip install -r tests/bench/requirements.txt
    cargo build --release
    python tests/bench/large.py DIR [--sizes 1024x1024,2048x1024] [--precisions f32,bf16] [--rounds 1]

Writes the seeded weights to DIR/model once, as `peers.py` does. Every line of the table is two processes that take turns, so that a
ratio is of neighbours in time; each loads, computes once unmeasured, and then `--rounds` times. Memory is the process's peak: weights,
and what reading and packing them took, included.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "golden"))

REPOSITORY = Path(__file__).parents[2]
STAGES = {"vae": "decode", "vae-encoder": "encode"}


def bench(arguments, stage: str, size: str, precision: str, undivided: bool) -> dict:
    """What `darkroom bench` printed, or why it did not, as "error"."""
    width, height = size.split("x")
    flags = ["--stage", stage, "--width", width, "--height", height, "--precision", precision]
    flags += ["--rounds", str(arguments.rounds), "--json", *["--undivided"] * undivided]
    command = [arguments.darkroom, "bench", "--model", arguments.dir / "model", *flags]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        return {"error": (done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1]}
    return json.loads(done.stdout)


def line(arguments, stage: str, size: str, precision: str) -> str:
    bands, whole = (bench(arguments, stage, size, precision, undivided) for undivided in (False, True))
    if error := bands.get("error") or whole.get("error"):
        return f"| {STAGES[stage]} | {size} | {precision} | failed: {error} |"
    seconds = [statistics.median(found["seconds"]) for found in (bands, whole)]
    memory = [found["peak_memory_bytes"] / 2**30 for found in (bands, whole)]
    cells = [STAGES[stage], size.replace("x", "×"), precision, *(f"{value:.1f}" for value in seconds)]
    cells += [f"{seconds[0] / seconds[1]:.2f}", *(f"{value:.2f}" for value in memory)]
    return f"| {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=Path, help="for the weights")
    parser.add_argument("--stages", default="vae,vae-encoder", help="of vae (decode) and vae-encoder")
    parser.add_argument("--sizes", default="1024x1024,2048x1024", help="width x height")
    parser.add_argument("--precisions", default="f32")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--darkroom", type=Path, default=REPOSITORY / "target/release/darkroom", help="the program")
    arguments = parser.parse_args()
    if not (arguments.dir / "model/vae/diffusion_pytorch_model.safetensors").is_file():
        import numpy as np
        from full_size import write_model

        write_model(arguments.dir / "model", np.float32)
    print("| | size | precision | bands, s | undivided, s | ratio | bands, GiB | undivided, GiB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    failed = False
    for precision in arguments.precisions.split(","):
        for size in arguments.sizes.split(","):
            for stage in arguments.stages.split(","):
                found = line(arguments, stage, size, precision)
                failed |= "failed" in found
                print(found, flush=True)
    print(f"\nload average at the end: {os.getloadavg()[1]:.1f} over five minutes", file=sys.stderr)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
