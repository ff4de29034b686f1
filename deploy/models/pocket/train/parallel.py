"""Training on two cores: two processes of one thread each are faster than one process of two threads."""

import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

WORKERS = 2


def run(worker: Callable, *args: object) -> None:
    """Runs `worker(rank, *args)` in every process."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_start, args=(f"file://{Path(folder, 'store')}", worker, args), nprocs=WORKERS)


def _start(rank: int, store: str, worker: Callable, args: tuple) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=WORKERS)
    worker(rank, *args)
    dist.destroy_process_group()


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Gives every process the mean of all gradients."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    flat /= WORKERS
    offset = 0
    for gradient in gradients:
        gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
        offset += gradient.numel()
