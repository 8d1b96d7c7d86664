"""Machine: what card, libraries and processor the figures are of."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Iterator

import torch
import torchvision

from benchmarks.gpu.section import Part, Section, Setting

#: The row that the report takes its name from.
CARD = "device"


def measure(setting: Setting) -> Iterator[Part]:
    """Say it."""
    yield {"what": CARD, "is": setting.runtime.device_name}
    if setting.device_type == "cuda":
        card = torch.cuda.get_device_properties(0)
        yield {
            "what": "memory",
            "is": f"{card.total_memory / 2**30:.0f} GiB, {torch.cuda.mem_get_info()[0] / 2**30:.0f} free",
        }
        yield {
            "what": "compute capability",
            "is": f"{card.major}.{card.minor}, {card.multi_processor_count} multiprocessors",
        }
        yield {"what": "CUDA and cuDNN", "is": f"{torch.version.cuda}, {torch.backends.cudnn.version()}"}
    yield {"what": "torch and torchvision", "is": f"{torch.__version__}, {torchvision.__version__}"}
    yield {"what": "Python", "is": platform.python_version()}
    yield {"what": "processor", "is": f"{os.cpu_count()} cores, {platform.machine()}, host {socket.gethostname()}"}
    yield {"what": "digits", "is": setting.mnist_is}
    yield {"what": "precision of `auto`", "is": str(setting.runtime.dtype("auto")).removeprefix("torch.")}


SECTION = Section("machine", "The machine", 60.0, measure)
