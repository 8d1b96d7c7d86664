"""A bare machine: the checkout, the wheels, and a Python that holds torch; nothing is fetched, nothing is installed.

The wheels are unpacked into `.gpu-site/`, which stands behind the checkout on the path of this run alone; what they
leave out is the machine's own. Only the standard library is imported here, as the rest is not there yet.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[2]
WHEELS, SITE = ROOT / ".gpu-wheels", ROOT / ".gpu-site"
LOOK_FOR_A_CARD = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"


def main() -> None:
    """Run the tests and measurements with this Python if there is a card; else say so."""
    looked = subprocess.run([sys.executable, "-c", LOOK_FOR_A_CARD], capture_output=True, text=True, check=False)
    if looked.returncode or not looked.stdout.strip():
        why = "has no torch" if looked.returncode else "finds no CUDA card"
        print(f"nothing is run: {sys.executable} {why} here; `make gpu-dry` tries the same on the CPU")
        return
    print(f"on {looked.stdout.strip()}", flush=True)
    unpack()
    path = os.pathsep.join([str(ROOT), str(SITE)])
    os.execve(
        sys.executable,
        [sys.executable, "-m", "benchmarks.gpu", *sys.argv[1:]],
        os.environ | {"PYTHONPATH": path},
    )


def unpack() -> None:
    """Unpack the wheels, and let the checkout's version be found as if it was installed."""
    SITE.mkdir(exist_ok=True)
    if wheels := sorted(map(str, WHEELS.glob("*.whl"))):
        options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--upgrade"]
        subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", str(SITE), *wheels], check=True)
    else:
        print(
            f"no wheels in {WHEELS.name}: the machine's own packages must do (`make gpu-wheels` elsewhere makes them)"
        )
    try:
        version("distill-queue")
    except PackageNotFoundError:
        number = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
        (metadata := SITE / f"distill_queue-{number}.dist-info").mkdir(exist_ok=True)
        text = f"Metadata-Version: 2.1\nName: distill-queue\nVersion: {number}\n"
        (metadata / "METADATA").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
