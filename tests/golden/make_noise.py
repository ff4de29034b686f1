"""Makes what torch.randn gives for a seed, call after call with one generator, and variation seeds.

    python make_noise.py

noise/torch_randn.json is the CPU's noise. noise/cuda_randn.json is a GPU's, made without one: the words are those of the engine in
torch's own headers (ATen/core/PhiloxRNGEngine.h), which a C++ compiler builds, and numpy makes normals of them as cuRAND does.
noise/variation.json turns one seed's noise towards another's.

Needs torch, ninja and a C++ compiler.
"""

import functools
import json
import math
import pathlib

import numpy as np
import torch
from torch.utils.cpp_extension import load_inline

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


ENGINE = """
#include <ATen/core/PhiloxRNGEngine.h>

torch::Tensor words(const std::string& seed, int64_t n, int64_t call) {
    auto out = torch::empty({n, 2}, torch::kInt64);
    for (int64_t i = 0; i < n; i++) {
        at::Philox4_32 engine(std::stoull(seed), i, call);
        for (int64_t j = 0; j < 2; j++) out[i][j] = static_cast<int64_t>(engine());
    }
    return out;
}
"""


@functools.cache
def engine():
    return load_inline("philox", ENGINE, functions="words").words


class Cuda:
    """What torch.Generator("cuda") draws: a thread for each value, four words of its subsequence for each call."""

    def __init__(self, seed):
        self.seed, self.calls = seed, 0

    def randn(self, *shape):
        x, y = engine()(str(self.seed), math.prod(shape), self.calls).numpy().T
        self.calls += 1
        step, angle = np.float32(2.0**-32), np.float32(np.float32(2.0**-32) * np.float32(2 * np.pi))
        u = x.astype(np.float32) * step + step / 2
        v = y.astype(np.float32) * angle + angle / 2
        values = np.sqrt(-2 * np.log(u.astype(np.float64))) * np.sin(v.astype(np.float64))
        return torch.from_numpy(values.astype(np.float32)).reshape(shape)


def cuda_case(seed, sizes):
    generator = Cuda(seed)
    return {"seed": seed, "calls": [kept([float(f"{x:.9g}") for x in generator.randn(n).tolist()]) for n in sizes]}


def slerp(strength, low, high):
    """Between two seeds' noise [channels, height, width], along the second axis, as AUTOMATIC1111's web UI varies seeds."""
    cosine = torch.nn.functional.cosine_similarity(low, high, dim=1, eps=0.0)
    angle = torch.acos(cosine)[:, None]
    return (torch.sin((1 - strength) * angle) * low + torch.sin(strength * angle) * high) / torch.sin(angle)


def varied(seeds, shape, strength):
    low, high = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds)
    values = slerp(strength, low, high).flatten().tolist()
    return {"seeds": seeds, "shape": shape, "strength": strength, "values": [float(f"{x:.9g}") for x in values]}


def write(name, made_from, cases):
    golden = {"script": "tests/golden/make_noise.py", "made_from": made_from, "cases": cases}
    (HERE / name).write_text(json.dumps(golden).replace('{"seed', '\n{"seed') + "\n")


def main():
    torch.set_num_threads(1)
    HERE.mkdir(exist_ok=True)
    made_from = f"torch {torch.__version__} on {torch.backends.cpu.get_cpu_capability()}"
    sequences = SINGLE + SEQUENCES
    write("torch_randn.json", made_from, [case(seed, sizes) for seed in SEEDS for sizes in sequences])
    cuda = [cuda_case(seed, sizes) for seed in SEEDS for sizes in ([5], [4 * 64 * 64], [3, 17, 2, 64, 1])]
    write("cuda_randn.json", f"the engine of torch {torch.__version__}", cuda)
    shapes = [([1, 2], [4, 8, 8], 0.1), ([42, 7], [4, 16, 9], 0.5), ([3, 1000], [2, 24, 5], 0.95)]
    write("variation.json", made_from, [varied(*parts) for parts in shapes])


if __name__ == "__main__":
    main()
