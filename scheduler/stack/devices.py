"""Devices: what a machine offers to workers, one worker each."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill_queue.shared.errors import InvalidSettings
from distill_queue.shared.line import shortened

_PART = re.compile(r"cpu(?::(?P<workers>[1-9]\d{0,2}))?|cuda:(?P<gpus>\d+(?:,\d+)*)")


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU, or a share of the CPU's cores, for one worker."""

    name: str
    queues: tuple[str, ...]
    #: Threads of tensor operations.
    threads: int
    #: The GPU that its worker sees, as CUDA counts them; none for a share of the CPU.
    gpu: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """What its worker's process must see."""
        threads = str(self.threads)
        return {"CUDA_VISIBLE_DEVICES": self.gpu, "DISTILL_THREADS": threads, "OMP_NUM_THREADS": threads}


def devices(text: str, threads: int = 0, gpus: Sequence[str] | None = None) -> tuple[Device, ...]:
    """The devices that `auto`, `cpu`, `cpu:4`, `cuda:0,1` or several of these, joined by `+`, stand for.

    Args:
        text: what is wanted; `auto` is each GPU of the machine, and one worker on its cores.
        threads: of each worker; 0 shares the cores out.
        gpus: those that the machine has; None looks.

    Raises:
        InvalidSettings: it means nothing, or names a GPU that is not there.

    """
    gpus = _gpus() if gpus is None else gpus
    wanted, cpus = (list(gpus), 1) if text == "auto" else _read(text)
    if missing := [gpu for gpu in wanted if gpu not in gpus]:
        there = ", ".join(f"cuda:{gpu}" for gpu in gpus) or "none"
        raise InvalidSettings(f"--devices: no cuda:{missing[0]} on this machine (there: {there})")
    if len(set(wanted)) < len(wanted):
        raise InvalidSettings(f"--devices: '{text}' names a GPU twice")
    return tuple(_share_out(wanted, cpus, threads or max(1, cores() // (len(wanted) + cpus))))


def has_gpu() -> bool:
    """Whether this machine has a GPU that workers may use."""
    return bool(_gpus())


def _read(text: str) -> tuple[list[str], int]:
    """The GPUs that are named, and how many workers on the CPU."""
    gpus: list[str] = []
    cpus = 0
    for part in text.split("+"):
        if not (match := _PART.fullmatch(part)):
            raise InvalidSettings(
                f"--devices: cannot read '{shortened(part, 60)}': use auto, cpu, cpu:4, cuda:0,1 or cpu:2+cuda:0"
            )
        if match["gpus"]:
            gpus += match["gpus"].split(",")
        else:
            cpus += int(match["workers"] or 1)
    return gpus, cpus


def _share_out(gpus: list[str], cpus: int, threads: int) -> Iterator[Device]:
    for gpu in gpus:
        yield Device(f"cuda-{gpu}", ("gpu", "any"), threads, gpu)
    for number in range(1, cpus + 1):
        yield Device("cpu" if cpus == 1 else f"cpu-{number}", ("cpu", "any"), threads)


def cores() -> int:
    """Cores that this process may use: fewer than the machine's in a container or under taskset."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus() -> list[str]:
    """The machine's GPUs as CUDA counts them, or as the environment names those that it does not hide."""
    there = sorted(int(path.name.removeprefix("nvidia")) for path in Path("/dev").glob("nvidia[0-9]*"))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not there:
        return [str(gpu) for gpu in there]
    return [gpu.strip() for gpu in visible.split(",") if gpu.strip()]
