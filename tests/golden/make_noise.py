"""Makes noise/torch_randn.json: what torch.randn gives on the CPU for a seed, call after call with one generator.

    python make_noise.py

Needs torch.
"""

import json
import pathlib

import torch

HERE = pathlib.Path(__file__).parent / "noise"
SEEDS = [0, 42, 2**32 + 5, 2**64 - 1]
# One call each: below 16, multiples of 16, and what is neither; then a picture's latents.
SINGLE = [[n] for n in (1, 2, 5, 15, 16, 17, 31, 64, 100)] + [[4 * 64 * 64]]
# Below 16 values come in pairs: a second one that is left over waits for the next such call, whatever lies between.
SEQUENCES = [[1, 1, 1], [5, 16, 5, 5], [3, 17, 2, 64, 1], [15, 15, 31, 1, 1], [4 * 8 * 8] * 3, [4 * 9 * 7] * 2]


def kept(values):
    """All of a short call; of a long one every 251st value and the last sixteen."""
    n = len(values)
    indexes = range(n) if n <= 64 else sorted(set(range(0, n, 251)) | set(range(n - 16, n)))
    return {"n": n, "indexes": list(indexes) if n > 64 else None, "values": [values[i] for i in indexes]}


def case(seed, sizes):
    generator = torch.Generator().manual_seed(seed)
    calls = [torch.randn(n, generator=generator) for n in sizes]
    return {"seed": seed, "calls": [kept([float(f"{x:.9g}") for x in call.tolist()]) for call in calls]}


def main():
    torch.set_num_threads(1)
    HERE.mkdir(exist_ok=True)
    cases = [case(seed, sizes) for seed in SEEDS for sizes in SINGLE + SEQUENCES]
    golden = {
        "script": "tests/golden/make_noise.py",
        "made_from": f"torch {torch.__version__} on {torch.backends.cpu.get_cpu_capability()}",
        "cases": cases,
    }
    (HERE / "torch_randn.json").write_text(json.dumps(golden).replace('{"seed"', '\n{"seed"') + "\n")


if __name__ == "__main__":
    main()
