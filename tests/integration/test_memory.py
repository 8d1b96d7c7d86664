"""What trainings take of the memory of a process of their own: near its estimate, and within a limit."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

#: A small transformer of transformers' for images.
VIT = {
    "model_type": "vit", "architectures": ["ViTForImageClassification"], "hidden_size": 64, "num_hidden_layers": 4,
    "num_attention_heads": 4, "intermediate_size": 256, "image_size": 28, "patch_size": 4, "num_channels": 1,
}  # fmt: skip
MEASURE = """
    import json, os, sys
    from pathlib import Path
    import numpy as np, torch
    from pydantic import TypeAdapter
    from distill_queue.shared.spec.model import ModelSpec
    from distill_queue.shared.spec.augmentation import AugmentationSpec
    from distill_queue.shared.spec.training import TrainingSpec
    from distill_queue.worker.machine import memory
    from distill_queue.worker import models
    from distill_queue.worker.data.batches import Batches, size_bytes
    from distill_queue.worker.training.checkpoints import Checkpoints
    from distill_queue.worker.data.arrays import Arrays
    from distill_queue.worker.data.split import Split
    from distill_queue.worker.training.objective import Goal
    from distill_queue.worker.machine.runtime import Runtime
    from distill_queue.worker.training.fit import Member, fit

    torch.set_num_threads(1)

    def kilobytes(name):
        return int(next(line for line in open("/proc/self/status") if line.startswith(name)).split()[1])

    def measure(folder, model, samples, batch_size, count, options):
        cpu = torch.device("cpu")
        runtime = Runtime(cpu, data=(folder.parent,))
        spec = TypeAdapter(ModelSpec).validate_python(model)
        inputs = np.random.default_rng(0).integers(0, 256, (samples, 1, 28, 28), dtype=np.uint8)
        targets = np.zeros(samples, np.int64)
        record = Arrays(inputs, targets, inputs[:9], targets[:9], ("a", "b")).save(folder)
        del inputs
        built = [models.build(spec, record, runtime, seed) for seed in range(count)]
        training = TrainingSpec(epochs=1, batch_size=batch_size, **options)

        def split(streamed):
            return Split.open(folder, "train", record, cpu, streamed=streamed)

        def train(members, split, name, seconds):
            batches = Batches(split, AugmentationSpec(), None, torch.float32)
            checkpoints = Checkpoints(folder / name, seconds)
            members = [Member(model, training, Goal()) for model in members]
            fit(members, batches, None, torch.float32, lambda *_: None, checkpoints)

        few = split(streamed=True)
        few = Split(few.inputs[:2], few.targets[:2], few.mean, few.std, 2)
        train([models.build(spec, record, runtime)], few, "warm", 1e9)  # Loads what is loaded once.
        mapped = split(streamed=True)
        data = size_bytes(mapped, AugmentationSpec(), torch.float32)
        need = memory.of_training(built, training, mapped.normalised(slice(0, 1)), torch.float32, data)
        Path("/proc/self/clear_refs").write_text("5")  # Sets the peak back to what is there now.
        before = kilobytes("VmRSS")
        train(built, split(streamed=False), "checkpoints", 1e-3)
        return need.total, (kilobytes("VmHWM") - before) * 1024

    # Each in a process of its own, which need not load torch again.
    for number, case in enumerate(json.loads(sys.argv[2])):
        if (process := os.fork()) == 0:
            (folder := Path(sys.argv[1], str(number))).mkdir()
            print(*measure(folder, *case), flush=True)
            os._exit(0)
        assert os.waitpid(process, 0)[1] == 0, case
"""

#: A model, the samples, those of a batch, the members, and how they are trained.
CASES: dict[str, tuple[dict[str, Any], int, int, int, dict[str, Any]]] = {
    "mlp": ({"name": "mlp", "hidden": [2048, 1024]}, 4_000, 256, 1, {}),
    "mlp, averaged": ({"name": "mlp", "hidden": [2048, 1024]}, 1_000, 64, 1, {"ema_decay": 0.9, "accumulate": 4}),
    "mlps": ({"name": "mlp", "hidden": [256]}, 20_000, 1_024, 6, {}),
    "cnn": ({"name": "cnn", "width": 16}, 1_024, 512, 1, {}),
    "resnet8": ({"name": "resnet8"}, 512, 256, 1, {}),
    "timm": ({"name": "timm/test_resnet"}, 512, 256, 1, {}),
    "transformers": ({"name": "huggingface/vit", "pretrained": False}, 256, 128, 1, {}),
}


@pytest.fixture(scope="module")
def memory_of(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, int]]:
    """Bytes of each case, as they are estimated and as they are measured; none of a library that is not there."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs Linux's /proc/self/clear_refs")
    folder = tmp_path_factory.mktemp("memory")
    (folder / "vit").mkdir()
    (folder / "vit" / "config.json").write_text(json.dumps(VIT))
    absent = [library for library in ("timm", "transformers") if find_spec(library) is None]
    names = [name for name in CASES if name not in absent]
    command = [sys.executable, "-c", textwrap.dedent(MEASURE), folder, json.dumps([CASES[name] for name in names])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr
    lines = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    return {name: (estimated, measured) for name, (estimated, measured) in zip(names, lines, strict=True)}


@pytest.mark.parametrize("case", CASES)
def test_an_estimate_is_near_the_peak(memory_of: dict[str, tuple[int, int]], case: str) -> None:
    if case not in memory_of:
        pytest.skip(f"needs {case}")

    estimated, measured = memory_of[case]

    assert 0.5 < estimated / measured < 2.5, (estimated, measured)  # What convolutions take depends on the processor.


def test_a_stage_whose_data_do_not_fit_streams_them_within_its_limit(tmp_path: Path) -> None:
    """Train on 100 MB of samples in a process that may take 60 MB more than it has: RLIMIT_DATA ends it else."""
    script = """
        import resource, sys
        from pathlib import Path
        import numpy as np, torch
        from distill_queue.shared.spec.augmentation import AugmentationSpec
        from distill_queue.shared.spec.training import TrainingSpec
        from distill_queue.worker.data.batches import Batches
        from distill_queue.worker.training.checkpoints import Checkpoints
        from distill_queue.worker.data.arrays import Arrays
        from distill_queue.worker.data.split import Split
        from distill_queue.worker.models import Mlp
        from distill_queue.worker.training.objective import Goal
        from distill_queue.worker.training.fit import Member, fit

        torch.set_num_threads(1)
        folder, cpu = Path(sys.argv[1]), torch.device("cpu")
        samples = 100_000
        inputs = np.lib.format.open_memmap(folder / "given.npy", "w+", np.uint8, (samples, 1, 32, 32))
        record = Arrays(inputs, np.zeros(samples, np.int64), inputs[:9], np.zeros(9, np.int64), ("a", "b")).save(folder)

        def train(streamed, samples):
            split = Split.open(folder, "train", record, cpu, streamed=streamed)
            split = Split(split.inputs[:samples], split.targets[:samples], split.mean, split.std, samples)
            members = [Member(Mlp(1024, (8,), 2), TrainingSpec(epochs=1, batch_size=512), Goal())]
            batches = Batches(split, AugmentationSpec(), None, torch.float32)
            checkpoints = Checkpoints(folder / "checkpoints", 1e9)
            fit(members, batches, None, torch.float32, lambda *_: None, checkpoints)

        train(streamed=True, samples=2_048)
        used = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (used + 60_000_000,) * 2)
        train(streamed=True, samples=samples)
        print("streamed")
        try:
            train(streamed=False, samples=samples)
        except (MemoryError, RuntimeError):
            print("too large in memory")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), tmp_path], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines() == ["streamed", "too large in memory"], done.stderr
