"""One engine on one stage, in a process of its own: loads, warms up, times a few steps and prints a line of JSON.

    python tests/bench/engine.py ENGINE STAGE PRECISION MODEL --side 64 --threads 4 --steps 3 --work DIR

`peers.py` starts it. ENGINE is diffusers, compile (torch.compile) or openvino; MODEL is a diffusers folder. Where an engine can be set up in
more than one way (memory layouts), each way is timed and the fastest counts; "setting" says which it was.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch

import stages


def diffusers(stage: str, precision: str, given: tuple, arguments):
    """PyTorch as it comes: eager, oneDNN underneath, attention by scaled_dot_product_attention."""
    module = stages.module(arguments.model, stage, precision)
    given = cast(given, stages.DTYPES[precision])
    yield "contiguous", lambda: module(*given)
    if stage != "text":
        module.to(memory_format=torch.channels_last)
        yield "channels_last", lambda: module(*given)


def compile(stage: str, precision: str, given: tuple, arguments):
    """torch.compile with inductor's weights frozen, so that it may pack them for oneDNN."""
    import torch._inductor.config as inductor

    inductor.freezing = True
    module = stages.module(arguments.model, stage, precision)
    given = cast(given, stages.DTYPES[precision])
    compiled = torch.compile(module, dynamic=False)
    yield "frozen", lambda: compiled(*given)


def openvino(stage: str, precision: str, given: tuple, arguments):
    """OpenVINO's CPU plugin on static shapes. The converted model is kept in the work folder for the next process."""
    import openvino as ov

    path = arguments.work / f"openvino/{stage}-{arguments.side}.xml"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        module = stages.module(arguments.model, stage, "f32")
        shapes = [tuple(value.shape) for value in given]
        partial = path.with_name(f"partial-{path.name}")
        ov.save_model(ov.convert_model(module, example_input=given, input=shapes), partial, compress_to_fp16=False)
        del module
        # The description last: it is what says that the conversion is whole.
        partial.with_suffix(".bin").replace(path.with_suffix(".bin"))
        partial.replace(path)
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": arguments.threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = ov.Core().compile_model(path, "CPU", settings).create_infer_request()
    arrays = [value.numpy() for value in given]
    yield "static shapes", lambda: request.infer(arrays, share_inputs=True, share_outputs=True)


ENGINES = {"diffusers": diffusers, "compile": compile, "openvino": openvino}


def cast(given: tuple, dtype) -> tuple:
    """Latents and embeddings in the precision of the module, as a pipeline hands them on. Timesteps and ids stay."""
    return tuple(value.to(dtype) if value.is_floating_point() and value.dim() > 1 else value for value in given)


def measure(settings, steps: int) -> dict:
    """The fastest setting, by its median step. The first step of each is its warm-up."""
    best = None
    for name, step in settings:
        seconds = [timed(step) for _ in range(1 + steps)]
        found = {"setting": name, "seconds": seconds[1:], "first_seconds": seconds[0]}
        if best is None or statistics.median(found["seconds"]) < statistics.median(best["seconds"]):
            best = found
    return best


def timed(step) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("stage", choices=stages.STAGES)
    parser.add_argument("precision", choices=stages.PRECISIONS)
    parser.add_argument("model", type=Path)
    parser.add_argument("--side", type=int, required=True, help="of the latents")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True, help="timed ones, after the warm-up")
    parser.add_argument("--work", type=Path, required=True, help="for what is kept from run to run")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    given = stages.inputs(arguments.stage, arguments.side)
    with torch.inference_mode():
        settings = ENGINES[arguments.engine](arguments.stage, arguments.precision, given, arguments)
        print(json.dumps(measure(settings, arguments.steps)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
