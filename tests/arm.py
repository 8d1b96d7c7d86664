"""Exported students on ARM: the files' logits by onnxruntime for aarch64, in QEMU's user mode, beside this machine's.

`python -m tests.arm` trains three small students, exports each in float and in integers, and has an emulated processor
answer 200 test images. Correctness only: an emulator's times say nothing. It needs Debian's `qemu-user-static` and
`debootstrap` and a user who is root, gets Debian's Python and onnxruntime's wheel for aarch64 (some 80 MB), and keeps
them in `.arm`; it takes some minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from rich.console import Console

from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner

KEPT = Path(__file__).parents[1] / ".arm"
SUITE, PYTHON = "bookworm", "3.11"
PROGRAMS = {"qemu-aarch64-static": "qemu-user-static", "debootstrap": "debootstrap"}
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
IMAGES = 200
#: Of the logits' range, in floating point; and the share of images that a file of integers, whose sums are rounded
#: otherwise by another processor's instructions, has to put into the same class.
MOST_DIFFERENCE, LEAST_AGREEMENT = 1e-5, 0.99
#: What Linux tells of a Neoverse N1. QEMU shows the host's, of which onnxruntime's detection of cores makes nothing.
CPUINFO = """processor\t: {number}
BogoMIPS\t: 100.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: 0xd0c
CPU revision\t: 1

"""
#: Run by the emulated Python: a folder with `images.npy` and ONNX files, to each of which it adds `NAME.npy`.
GUEST = """
import pathlib, platform, sys
import numpy, onnxruntime
assert platform.machine() == "aarch64", platform.machine()
folder = pathlib.Path(sys.argv[1])
images = numpy.load(folder / "images.npy")
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
for path in sorted(folder.glob("*.onnx")):
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    numpy.save(path.with_suffix(".npy"), session.run(None, {"input": images})[0])
print("onnxruntime", onnxruntime.__version__, "on", platform.machine())
"""
TRAINING = {"epochs": 2, "batch_size": 64}
SPEC = {
    "name": "arm",
    "dataset": {"name": "mnist_5k"},
    "teacher": {"model": {"name": "mlp", "hidden": [128]}, "training": TRAINING},
    "students": [
        {"name": model["name"], "model": model, "training": TRAINING, "export": {"formats": ["onnx", "onnx-int8"]}}
        for model in ({"name": "mlp", "hidden": [128]}, {"name": "cnn", "width": 16}, {"name": "resnet8"})
    ],
    "evaluation": {"control": False},
}

console = Console(width=110, highlight=False)


def main() -> None:
    """Print a line for each file, and exit with 1 if one answers otherwise on ARM."""
    missing = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    if missing or os.geteuid() != 0:
        sys.exit(f"error: needs root, and 'apt-get install {' '.join(PROGRAMS.values())}'")
    if not (KEPT / "ready").exists():
        prepare(KEPT)
    with tempfile.TemporaryDirectory(prefix="arm-") as name:
        folder = Path(name)
        export(folder)
        console.print(emulated(folder))
        failed = [path.stem for path in sorted(folder.glob("*.onnx")) if not same(path)]
    sys.exit(f"error: these answer otherwise on ARM: {', '.join(failed)}" if failed else 0)


def prepare(kept: Path) -> None:
    """Put Debian's Python for arm64, and onnxruntime for it, into a folder."""
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir()
    root = kept / "root"
    run("debootstrap", "--foreign", "--variant=minbase", "--arch=arm64", "--include=python3", SUITE, root)
    for package in sorted((root / "var/cache/apt/archives").glob("*.deb")):
        run("dpkg-deb", "-x", package, root)
    (root / "proc" / "cpuinfo").write_text("".join(CPUINFO.format(number=number) for number in range(2)))
    for_arm = ("--python-version", PYTHON, "--implementation", "cp", "--only-binary=:all:")
    platforms = (word for name in PLATFORMS for word in ("--platform", name))
    wanted = (f"onnxruntime=={version('onnxruntime')}", "numpy")
    run(sys.executable, "-m", "pip", "install", "--quiet", "--target", kept / "site", *for_arm, *platforms, *wanted)
    (kept / "ready").touch()


def export(folder: Path) -> None:
    """Train and export the students: `NAME-model.onnx`, `NAME-model-int8.onnx`, and `images.npy`."""
    with tempfile.TemporaryDirectory(prefix="arm-store-") as store:
        runner = StageRunner(FolderStore(Path(store)), Runtime(torch.device("cpu")), lambda *_: None)
        for stage in Plan.of(PipelineSpec.model_validate(SPEC)).stages:
            artifact = runner.run(stage)
            if stage.kind == "prepare_data":
                np.save(folder / "images.npy", np.load(artifact.path("test_inputs.npy"))[:IMAGES])
            for path in artifact.folder.glob("*.onnx"):
                shutil.copyfile(path, folder / f"{stage.title.split()[1]}-{path.name}")


def emulated(folder: Path) -> str:
    """Have the emulated processor answer, and return what its Python says of itself."""
    environment = {"PYTHONPATH": str(KEPT / "site"), "PYTHONHOME": str(KEPT / "root/usr"), "PATH": os.environ["PATH"]}
    root = KEPT / "root"
    python = root / "usr/bin" / f"python{PYTHON}"
    return run("qemu-aarch64-static", "-L", root, python, "-c", GUEST, folder, environment=environment).strip()


def same(path: Path) -> bool:
    """Whether a file's logits on ARM are those that it has here; prints how far they differ."""
    here, arm = logits(path), np.load(path.with_suffix(".npy"))
    difference = float(np.abs(here - arm).max() / (here.max() - here.min()))
    agreement = float((here.argmax(1) == arm.argmax(1)).mean())
    console.print(f"{path.stem}: {difference:.1e} of the logits' range, {agreement:.1%} of {len(here)} classes agree")
    if "int8" in path.stem:
        return agreement >= LEAST_AGREEMENT
    return difference <= MOST_DIFFERENCE and agreement == 1.0


def logits(path: Path) -> npt.NDArray[np.float32]:
    """A file's logits on this machine."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found: npt.NDArray[np.float32] = session.run(None, {"input": np.load(path.parent / "images.npy")})[0]
    return found


def run(*command: str | Path, environment: dict[str, str] | None = None) -> str:
    """What a program prints; its last words are the error if it fails."""
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"error: {command[0]} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-600:]}")
    return done.stdout


if __name__ == "__main__":
    main()
