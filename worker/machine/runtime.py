"""Runtime: where a stage runs: its device, its precision, and the folders and packages that it may use."""

from __future__ import annotations

import platform
import socket
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Literal, Protocol, Self

import torch

from distill_queue.shared.errors import Unavailable
from distill_queue.shared.settings import Settings
from distill_queue.shared.store.manifest import Provenance
from distill_queue.shared.text import plain_line
from distill_queue.worker.machine import memory

Precision = Literal["auto", "float32", "bfloat16", "float16"]
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Report(Protocol):
    """Reports how far a stage is, to Flower and the ledger; may raise `StageStopped` to end the stage."""

    def __call__(self, progress: str, samples: int = 0, share: float | None = None, /) -> None:
        """Report progress.

        Args:
            progress: in words.
            samples: how many were worked on since the last call.
            share: the part of all the work that is done, from 0 to 1, where that can be told.

        """


@dataclass(frozen=True, slots=True)
class Runtime:
    """A device, the packages that may be imported, and the folder of downloads."""

    device: torch.device
    #: Packages from which models and data sets of the user's own may be imported.
    plugins: tuple[str, ...] = ()
    #: Folder of downloaded data sets.
    downloads: Path = Path("downloads")
    #: Folders of data that specs name by a path.
    data: tuple[Path, ...] = ()
    #: SQLite's file in which the hashes of data are remembered; by default they are forgotten after each use.
    digests: Path = Path(":memory:")
    #: Gigabytes that a stage may take on the device; 0 stands for all that is free.
    memory_gb: float = 0.0

    @classmethod
    def probe(cls, settings: Settings, queue: str) -> Self:
        """The runtime of this process: a GPU where there is one, unless the stage asked for the CPU.

        Raises:
            Unavailable: the stage asked for a GPU, and there is none that works.

        """
        if settings.threads:
            torch.set_num_threads(settings.threads)
        on_gpu = queue != "cpu" and torch.cuda.is_available()
        if queue == "gpu" and not on_gpu:
            raise Unavailable("this worker serves the queue 'gpu', yet torch finds no GPU here")
        device = torch.device("cuda" if on_gpu else "cpu")
        return cls(
            device,
            settings.plugins,
            downloads=settings.folder / "downloads",
            data=settings.data,
            digests=settings.contents,
            memory_gb=settings.memory_gb,
        )

    def dtype(self, precision: Precision, *, stacked: bool = False) -> torch.dtype:
        """The type of matrix products.

        Args:
            precision: `auto` is bfloat16 where the device computes it natively, else float16 on a card that computes
                this fast, else float32.
            stacked: whether several models are trained side by side, which are not in float16.

        """
        if precision != "auto":
            return _DTYPES[precision]
        if _has_native_bfloat16(self.device):
            return torch.bfloat16
        return torch.float16 if not stacked and _has_fast_float16(self.device) else torch.float32

    @property
    def free_bytes(self) -> int:
        """Bytes that a stage can have on the device."""
        free = memory.free_bytes(self.device)
        return min(free, int(self.memory_gb * 1e9)) if self.memory_gb else free

    @property
    def device_name(self) -> str:
        """The device for people."""
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"cpu ({platform.machine()})"

    @property
    def provenance(self) -> Provenance:
        """Where and with what artifacts are made here, for their manifests."""
        return Provenance(host=plain_line(socket.gethostname()), device=self.device_name, versions=_versions())


@cache
def _versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, as this process has loaded them."""
    packages = ("distill-queue", "torch", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def _has_native_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported()


def _has_fast_float16(device: torch.device) -> bool:
    """Whether a card has tensor cores, all of which multiply in float16 (NVIDIA, from compute capability 7.0 on)."""
    return device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) >= (7, 0)
