"""A folder of images from a spec to a report, and in little memory."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
from PIL import Image

SPEC = """
name: colours
dataset: {name: image_folder, path: photos, size: 12, on_bad: skip, most_bad: 0.05}
teacher: {model: {name: mlp, hidden: [16]}, training: {epochs: 2, batch_size: 16, keep: best}}
students: [{name: small, model: {name: mlp, hidden: [8]}, training: {epochs: 1, batch_size: 16}}]
"""


def put(folder: Path, count: int, size: tuple[int, int] = (20, 16)) -> None:
    """JPEGs of two classes, with grain."""
    random = np.random.default_rng(0)
    for split, each in (("train", count), ("validation", 10), ("test", 10)):
        for name, channel in (("red", 0), ("blue", 2)):
            (place := folder / split / name).mkdir(parents=True)
            for number in range(each):
                values = random.integers(0, 120, (size[1], size[0], 3), dtype=np.uint8)
                values[..., channel] += 120
                Image.fromarray(values).save(place / f"{number}.jpg")


def test_a_folder_of_images_is_a_pipeline_of_one_command(tmp_path: Path) -> None:
    put(tmp_path / "photos", 20)
    (tmp_path / "photos" / "train" / "red" / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    (tmp_path / "spec.yaml").write_text(SPEC)
    command = [sys.executable, "-c", "from distill_queue.scheduler.cli.main import main; main()", "run", "spec.yaml"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "cannot be read as images and are left out" in " ".join(done.stdout.split())
    assert "train/red/cut.jpg" in "".join(done.stdout.split())


def test_images_are_packed_in_memory_that_does_not_grow_with_their_number(tmp_path: Path) -> None:
    """Pack 130 MB of samples in a process that may take 90 MB more than it has: RLIMIT_DATA ends it else."""
    put(tmp_path / "photos", 40)
    script = """
        import resource, sys
        from pathlib import Path
        import torch
        from distill_queue.shared.spec.dataset import dataset_reader
        from distill_queue.worker.data import load
        from distill_queue.worker.data.reading import Reading
        from distill_queue.worker.machine.runtime import Runtime

        torch.set_num_threads(2)
        folder = Path(sys.argv[1])
        runtime = Runtime(torch.device("cpu"), data=(folder,), digests=folder / "digests")

        def pack(side):
            (place := folder / str(side)).mkdir()
            spec = dataset_reader().validate_python({"name": "image_folder", "path": "photos", "size": side})
            return load.load(spec, Reading(runtime, place)).save(place)

        pack(8)
        used = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (used + 90_000_000,) * 2)
        print(pack(640).train_samples)
        try:
            bytearray(100_000_000)
        except MemoryError:
            print("the limit holds")
    """

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), tmp_path], capture_output=True, text=True, timeout=120
    )

    assert done.stdout.splitlines() == ["80", "the limit holds"], done.stderr
