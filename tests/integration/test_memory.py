"""What trainings take of the memory of a process of their own: near its estimate, and within a limit."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

#: A small transformer of transformers' for images.
VIT = {
    "model_type": "vit", "architectures": ["ViTForImageClassification"], "hidden_size": 64, "num_hidden_layers": 4,
    "num_attention_heads": 4, "intermediate_size": 256, "image_size": 28, "patch_size": 4, "num_channels": 1,
}  # fmt: skip
MEASURE = """
    import json, sys
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
    folder, cpu = Path(sys.argv[1]), torch.device("cpu")
    runtime = Runtime(cpu, data=(folder,))
    spec = TypeAdapter(ModelSpec).validate_json(sys.argv[2])
    samples, batch_size, count = map(int, sys.argv[3:6])
    inputs = np.random.default_rng(0).integers(0, 256, (samples, 1, 28, 28), dtype=np.uint8)
    targets = np.zeros(samples, np.int64)
    record = Arrays(inputs, targets, inputs[:9], targets[:9], ("a", "b")).save(folder)
    del inputs
    built = [models.build(spec, record, runtime, seed) for seed in range(count)]
    training = TrainingSpec(epochs=1, batch_size=batch_size, **json.loads(sys.argv[6]))

    def split(streamed):
        return Split.open(folder, "train", record, cpu, streamed=streamed)

    def train(members, split, name, seconds):
        batches = Batches(split, AugmentationSpec(), None, torch.float32)
        checkpoints = Checkpoints(folder / name, seconds)
        fit([Member(model, training, Goal()) for model in members], batches, None, torch.float32, print, checkpoints)

    few = split(streamed=True)
    few = Split(few.inputs[:2], few.targets[:2], few.mean, few.std, 2)
    train([models.build(spec, record, runtime)], few, "warm", 1e9)  # Loads what is loaded once.
    mapped = split(streamed=True)
    data = size_bytes(mapped, AugmentationSpec(), torch.float32)
    need = memory.of_training(built, training, mapped.normalised(slice(0, 1)), torch.float32, data)

    def kilobytes(name):
        return int(next(line for line in open("/proc/self/status") if line.startswith(name)).split()[1])

    Path("/proc/self/clear_refs").write_text("5")  # Sets the peak back to what is there now.
    before = kilobytes("VmRSS")
    train(built, split(streamed=False), "checkpoints", 1e-3)
    print(need.total, (kilobytes("VmHWM") - before) * 1024)
"""


@pytest.mark.parametrize(
    ("model", "samples", "batch_size", "count", "training"),
    [
        ('{"name": "mlp", "hidden": [2048, 1024]}', 4_000, 256, 1, "{}"),
        ('{"name": "mlp", "hidden": [2048, 1024]}', 1_000, 64, 1, '{"ema_decay": 0.9, "accumulate": 4}'),
        ('{"name": "mlp", "hidden": [256]}', 20_000, 1_024, 6, "{}"),
        ('{"name": "cnn", "width": 16}', 1_024, 512, 1, "{}"),
        ('{"name": "resnet8"}', 512, 256, 1, "{}"),
        ('{"name": "timm/test_resnet"}', 512, 256, 1, "{}"),
        ('{"name": "huggingface/vit", "pretrained": false}', 256, 128, 1, "{}"),
    ],
)
def test_an_estimate_is_near_the_peak(
    tmp_path: Path, model: str, samples: int, batch_size: int, count: int, training: str
) -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs Linux's /proc/self/clear_refs")
    for library, prefix in (("timm", "timm/"), ("transformers", "huggingface/")):
        if prefix in model:
            pytest.importorskip(library)
    (tmp_path / "vit").mkdir()
    (tmp_path / "vit" / "config.json").write_text(json.dumps(VIT))
    numbers = (str(number) for number in (samples, batch_size, count))
    command = [sys.executable, "-c", textwrap.dedent(MEASURE), tmp_path, model, *numbers, training]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    estimated, measured = map(int, done.stdout.splitlines()[-1].split())
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
