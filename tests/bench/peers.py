"""Darkroom's speed beside that of others, at full size: Stable Diffusion v1 with seeded random weights, on a CPU.

    pip install -r tests/bench/requirements.txt
    cargo build --release
    python tests/bench/peers.py DIR [--only unet] [--engines darkroom,diffusers] [--rounds 3] [--output FILE]

Writes the weights to DIR/model once (4.3 GB, as `golden/full_size.py`) and keeps what engines convert or compile in DIR/work. Prints a
Markdown table a stage, and one of Darkroom against its fastest peer.

Every round runs every engine once, each in a process of its own that ends before the next begins: engines never share the
memory or the cores, models of all of them together would not fit, and what one leaves behind (heap, threads, caches) disturbs no
other. Neighbours in a round ran within minutes, so ratios are taken within rounds, and their median counts. The order
moves on by one each round. A process loads, warms up, and times a few steps, whose median is the round's figure.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import stages
from full_size import write_model
from report import Report

REPOSITORY = Path(__file__).parents[2]
ENGINES = ("darkroom", "diffusers", "compile", "openvino")
# A text takes so little time that a few steps are too few to be told from noise.
STEPS_FACTOR = {"unet": 1, "vae": 1, "text": 10}


def command(engine: str, stage: str, precision: str, arguments) -> list:
    model, steps = arguments.dir / "model", arguments.steps * STEPS_FACTOR[stage]
    if engine == "darkroom":
        size = [] if stage == "text" else ["--width", 8 * arguments.side, "--height", 8 * arguments.side]
        flags = ["--stage", stage, "--precision", precision, "--rounds", steps, "--threads", arguments.threads]
        return [arguments.darkroom, "bench", "--json", "--model", model, *flags, *size]
    flags = ["--side", arguments.side, "--steps", steps, "--threads", arguments.threads]
    script = Path(__file__).with_name("engine.py")
    return [sys.executable, script, engine, stage, precision, model, *flags, "--work", arguments.dir / "work"]


def environment(arguments) -> dict:
    """As many threads for all; nothing is fetched, nothing but the result is printed."""
    return os.environ | {
        "OMP_NUM_THREADS": str(arguments.threads),
        "TORCHINDUCTOR_CACHE_DIR": str(arguments.dir / "work/inductor"),
        "PYTHONWARNINGS": "ignore",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
    }


def run(engine: str, stage: str, precision: str, arguments) -> dict:
    """What the engine measured: "seconds" and perhaps a "setting"; or why it did not, as "error"."""
    words = [str(word) for word in command(engine, stage, precision, arguments)]
    try:
        done = subprocess.run(words, env=environment(arguments), capture_output=True, text=True, timeout=arguments.limit)
    except subprocess.TimeoutExpired:
        return {"error": f"took longer than {arguments.limit:.0f} s"}
    except OSError as error:
        return {"error": str(error)}
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["said nothing"]
        return {"error": f"ended with {done.returncode}: {telling(lines)}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def telling(lines: list) -> str:
    """The line that names the error: the last one that begins as an exception's does, else the last of all."""
    named = [line for line in lines if line[0].isalpha() and "Error" in line.split(":")[0]]
    return (named or lines)[-1].strip()[:160]


def measure(stage: str, arguments, report: Report) -> None:
    """All rounds of a stage. An engine that failed is not tried again."""
    contenders = [(engine, precision) for precision in arguments.precisions for engine in arguments.engines]
    for number in range(arguments.rounds):
        turn = number % len(contenders)
        for contender in contenders[turn:] + contenders[:turn]:
            if report.failed(stage, *contender):
                continue
            began = time.monotonic()
            result = run(contender[0], stage, contender[1], arguments)
            report.add(stage, *contender, result)
            said = result.get("error") or f"{statistics.median(result['seconds']):.3f} s"
            took = time.monotonic() - began
            print(f"{stage}, round {number + 1}: {' '.join(contender)}: {said} ({took:.0f} s in all)", file=sys.stderr)


def parse() -> argparse.Namespace:
    def some_of(allowed):
        def parse(text):
            chosen = text.split(",")
            if unknown := set(chosen) - set(allowed):
                raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: allowed are {', '.join(allowed)}")
            return chosen

        return parse

    def at_least_one(text):
        if int(text) < 1:
            raise argparse.ArgumentTypeError(f"{text}: allowed are numbers from 1")
        return int(text)

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dir", type=Path, help="for the weights and what engines make of them")
    parser.add_argument("--only", type=some_of(stages.STAGES), default=list(stages.STAGES), metavar="STAGES")
    parser.add_argument("--engines", type=some_of(ENGINES), default=list(ENGINES))
    parser.add_argument("--precisions", type=some_of(stages.PRECISIONS), default=list(stages.PRECISIONS))
    parser.add_argument("--rounds", type=at_least_one, default=3)
    parser.add_argument("--steps", type=at_least_one, default=3, help="timed in each round after a warm-up; ten times as many for texts")
    parser.add_argument("--threads", type=at_least_one, default=cores)
    parser.add_argument("--side", type=at_least_one, default=64, help="of the latents; 64 makes pictures of 512x512")
    parser.add_argument("--limit", type=float, default=2400, help="seconds for one process, conversion included")
    parser.add_argument("--darkroom", type=Path, default=REPOSITORY / "target/release/darkroom", help="the program")
    parser.add_argument("--output", type=Path, help="a file for the tables; rewritten after each stage")
    arguments = parser.parse_args()
    if arguments.side % 8 or not 8 <= arguments.side <= 256:
        parser.error(f"--side: {arguments.side}: allowed are multiples of 8 from 8 to 256")
    if "darkroom" in arguments.engines and not arguments.darkroom.is_file():
        parser.error(f"--darkroom: {arguments.darkroom} is not built: cargo build --release")
    # Processes may run elsewhere than in this folder.
    arguments.dir, arguments.darkroom = arguments.dir.resolve(), arguments.darkroom.resolve()
    return arguments


def main() -> int:
    arguments = parse()
    (arguments.dir / "work").mkdir(parents=True, exist_ok=True)
    write_model(arguments.dir / "model", np.float32)
    report = Report(arguments, REPOSITORY)
    for stage in arguments.only:
        measure(stage, arguments, report)
        print(report.stage(stage), flush=True)
        if arguments.output:
            arguments.output.write_text(report.text())
    print(report.summary())
    print(report.circumstances())
    return int(any(engine == "darkroom" for _, engine, _ in report.errors))


if __name__ == "__main__":
    sys.exit(main())
