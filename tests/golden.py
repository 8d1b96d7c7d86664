"""What must stay as it is when code moves: keys, results and the bytes of artifacts, beside an earlier commit's.

`python -m tests.golden --commit 99c6b99` takes that commit's tree out of git and has both versions plan every example
and run two small pipelines, each in a store of its own, on this machine. It prints what differs, and what of the
earlier one's store this version does not find.

`python -m tests.golden --keys` writes the keys of the examples into `tests/golden_keys.json`; the suite compares them.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
KEYS = Path(__file__).with_name("golden_keys.json")
DEFAULT_COMMIT = "99c6b99"
#: Seconds that a command may take.
DEADLINE_SECONDS = 300
#: Values of results that are times or names of one run.
OF_A_RUN = ("id", "seconds", "latency", "throughput", "worker", "started", "ended", "submitted", "host")

SMALL: dict[str, Any] = {"epochs": 2, "batch_size": 64}
#: One pipeline for each half of what the engine does: images, views, two teachers and a grid; plain rows and a control.
SPECS: list[dict[str, Any]] = [
    {
        "name": "images",
        "dataset": {"name": "digits", "validation": 0.2},
        "teachers": [
            {"model": {"name": "cnn"}, "training": SMALL | {"augmentation": {"shift": 1}}},
            {"model": {"name": "mlp", "hidden": [16]}, "training": SMALL | {"seed": 1}},
        ],
        "soft_labels": {"views": 2, "augmentation": {"shift": 1}, "top_k": 5},
        "students": [
            {
                "name": "chosen",
                "model": {"name": "mlp", "hidden": [8]},
                "training": SMALL,
                "distillation": {"temperature": {"grid": [1, 2, 4]}},
                "seeds": 3,
            },
            {
                "name": "dkd",
                "model": {"name": "cnn", "width": 4},
                "training": SMALL,
                "distillation": {"loss": "dkd"},
            },
        ],
    },
    {
        "name": "rows",
        "dataset": {"name": "digits", "labelled": 500},
        "teacher": {"model": {"name": "mlp", "hidden": [32]}, "training": SMALL},
        "students": [
            {"name": loss, "model": {"name": "mlp", "hidden": [8]}, "training": SMALL, "distillation": {"loss": loss}}
            for loss in ("kd", "mse", "dist")
        ],
    },
]


def examples() -> list[Path]:
    """The specs of all examples, but for those that need a file which their README has one make."""
    return [
        path
        for path in sorted((ROOT / "examples").rglob("*.yaml"))
        if "outside" not in path.parts and path.stem != "given-teacher"
    ]


def copy_examples(folder: Path, root: Path = ROOT) -> None:
    """Copy the examples into a folder, without what git ignores: data that a script makes would be part of keys."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "examples"]
    names = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, names):
        if (root / name).is_file():  # Not removed since.
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, folder / name)


def command_of(tree: Path) -> list[str]:
    """How the `distill` command of a tree is started."""
    module = "distill_queue.scheduler.cli.main" if (tree / "distill_queue").is_dir() else "scheduler.cli"
    return [sys.executable, "-P", "-c", f"from {module} import main; main()"]


class Version:
    """A version of the code, with a store."""

    def __init__(self, tree: Path, store: Path) -> None:
        self.tree, self.store = tree, store

    def distill(self, *arguments: str | Path) -> str:
        """What its command prints.

        Raises:
            AssertionError: it ended with another code than 0.

        """
        path = os.pathsep.join(map(str, (self.tree, ROOT / "examples" / "custom")))
        environment = os.environ | {"PYTHONPATH": path, "DISTILL_STORE": str(self.store), "DISTILL_PLUGINS": "own"}
        done = subprocess.run(
            [*command_of(self.tree), *map(str, arguments)],
            env=environment | {"DISTILL_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"},
            cwd=self.tree,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"exit code {done.returncode}: {(done.stderr or done.stdout).strip()[-500:]}"
        return done.stdout

    def keys(self, spec: Path) -> dict[str, str]:
        """The key of each stage of a spec, by its title and place."""
        stages = json.loads(self.distill("plan", "--json", spec))["stages"]
        return {f"{place}: {stage['title']}": stage["key"] for place, stage in enumerate(stages)}

    def run(self, spec: Path) -> dict[str, str]:
        """Each value of a pipeline's results that is the same in each run."""
        printed = self.distill("run", spec).splitlines()
        (results,) = (line.split(": ", 1)[1] for line in printed if line.startswith("Results: "))
        return dict(_values(json.loads(Path(results).read_text())))

    def artifacts(self) -> dict[str, str]:
        """The SHA-256 of each file of each artifact, but for manifests and reports, which tell of one run."""
        paths = sorted((self.store / "artifacts").rglob("*"))
        files = [path for path in paths if path.is_file() and path.name not in ("manifest.json", "report.json")]
        return {str(path.relative_to(self.store)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _values(facts: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The values in nested facts, by their path, without those of one run."""
    if isinstance(facts, dict | list):
        for key, inner in facts.items() if isinstance(facts, dict) else enumerate(facts):
            if not any(each in str(key) for each in OF_A_RUN):
                yield from _values(inner, f"{name}.{key}")
    else:
        yield name, repr(facts)


def differences(what: str, earlier: dict[str, str], this: dict[str, str]) -> Iterator[str]:
    """A line for each entry that is not the same in both."""
    for name in sorted(earlier.keys() | this.keys()):
        if earlier.get(name) != this.get(name):
            yield f"{what}: {name}: {earlier.get(name)} became {this.get(name)}"


def compare(earlier: Version, this: Version, folder: Path) -> Iterator[str]:
    """What the later version does otherwise, line by line."""
    # A later example may say what the earlier version does not know.
    copy_examples(folder)
    for example in (str(each.relative_to(ROOT)) for each in examples()):
        if (earlier.tree / example).is_file():
            yield from differences(example, earlier.keys(folder / example), this.keys(folder / example))
    for number, content in enumerate(SPECS):
        spec = folder / f"{number}.yaml"
        spec.write_text(yaml.safe_dump(content))
        yield from differences(f"{content['name']}: results", earlier.run(spec), this.run(spec))
    made = earlier.artifacts()
    assert len(made) > 50, f"only {len(made)} files were made"
    yield from differences("artifacts", made, this.artifacts())
    reader = Version(this.tree, earlier.store)
    for number in range(len(SPECS)):
        stages = json.loads(reader.distill("plan", "--json", folder / f"{number}.yaml"))["stages"]
        yield from (f"the earlier store: {stage['title']} is not found" for stage in stages if not stage["found"])
    reader.distill("store", "verify")


def put_tree(commit: str, folder: Path) -> None:
    """Put a commit's tree into a folder."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")


def main() -> None:
    """Compare this version with a commit, or write the keys of the examples anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", default=DEFAULT_COMMIT, help="the earlier version, as git names it")
    parser.add_argument("--keys", action="store_true", help="write the keys of the examples")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="golden-") as name:
        folder = Path(name)
        this = Version(ROOT, folder / "this-store")
        if given.keys:
            copy_examples(folder)
            names = [str(path.relative_to(ROOT)) for path in examples()]
            keys = {name: this.keys(folder / name) for name in names}
            KEYS.write_text(json.dumps(keys, indent=1) + "\n")
            return
        put_tree(given.commit, folder / "earlier")
        found = list(compare(Version(folder / "earlier", folder / "earlier-store"), this, folder))
    sys.stdout.write("\n".join([*found, f"{len(found)} differences from {given.commit}\n"]))
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
