"""Two processes of one thread each, averaging their gradients: on few cores steadier and faster than threads."""

import os
import tempfile
from typing import Callable, Iterable, List

import torch
import torch.distributed
import torch.multiprocessing


def _start(rank: int, work: Callable[[int], None], workers: int, meeting: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method="file://" + meeting, rank=rank, world_size=workers)
    work(rank)
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def run_workers(work: Callable[[int], None], workers: int) -> None:
    """Call ``work(rank)`` in that many processes that can average with one another."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_start, args=(work, workers, os.path.join(folder, "meeting")), nprocs=workers)


def average_gradients(parameters: Iterable[torch.nn.Parameter], values: List[float]) -> List[float]:
    """Average gradients over all processes, and with them some numbers, which are returned."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients] + [torch.tensor(values)])
    torch.distributed.all_reduce(flat)
    flat /= torch.distributed.get_world_size()
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()
    return flat[start:].tolist()
