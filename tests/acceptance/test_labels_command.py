"""The `distill labels` commands as people run them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from distill_queue.shared.soft_labels.cache import SoftLabels
from distill_queue.shared.soft_labels.label_file import LabelFile
from distill_queue.shared.soft_labels.writer import SoftLabelsWriter
from distill_queue.shared.store.folder_store import FolderStore
from tests.acceptance.conftest import clean_environment, distill
from tests.conftest import small_spec

OUTSIDE = Path(__file__).parents[2] / "examples" / "outside"


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a small cache, computed once and only ever copied."""
    folder = tmp_path_factory.mktemp("computed")
    changes = {
        "teacher": {"model": {"name": "mlp", "hidden": [32]}, "training": {"epochs": 30, "learning_rate": 0.01}},
        "soft_labels": {"dtype": "float16", "top_k": 4, "views": 2, "augmentation": {"shift": 1}},
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump(small_spec(**changes)))
    done = distill(clean_environment(folder / "store"), "run", folder / "spec.yaml")
    assert done.returncode == 0, done.stderr
    return folder / "store"


@pytest.fixture
def cache(environment: dict[str, str], computed: Path) -> str:
    """The beginning of the key of a small cache in the store."""
    shutil.copytree(computed, environment["DISTILL_STORE"])
    (ref,) = FolderStore(Path(environment["DISTILL_STORE"])).refs("soft_labels")
    return ref.short_key


def test_a_cache_is_described_shown_verified_and_carried_away(
    environment: dict[str, str], cache: str, tmp_path: Path
) -> None:
    info, verified, head = (distill(environment, "labels", what, cache) for what in ("info", "verify", "head"))
    file, copy = tmp_path / "labels.npz", tmp_path / "copy"
    exported = distill(environment, "labels", "export", cache, file)
    imported = distill(environment, "labels", "import", file, copy, "--dtype", "uint8")
    of_copy = distill(environment, "labels", "verify", copy)

    for done in (info, verified, head, exported, imported, of_copy):
        assert (done.returncode, done.stderr) == (0, ""), done
    assert "top 4 float16, 20 bytes a row" in info.stdout
    assert "expected calibration error" in info.stdout
    assert verified.stdout.count("✓") == 4
    assert verified.stdout.endswith("passed\n")
    assert "256 random rows" in verified.stdout
    assert "others" in head.stdout
    assert len(SoftLabels.open(copy)) == 1438
    assert of_copy.stdout.endswith("passed what could be checked\n")


def test_labels_that_slipped_by_a_row_fail_although_all_checksums_are_right(
    environment: dict[str, str], cache: str, tmp_path: Path
) -> None:
    store = FolderStore(Path(environment["DISTILL_STORE"]))
    (ref,) = store.refs("soft_labels")
    right = store.open(ref)
    labels = SoftLabels.open(right.folder)
    writer = SoftLabelsWriter.begin(tmp_path / "slipped", labels.header.sealed(()))
    slipped = np.roll([labels.batch(slice(None), view) for view in range(2)], 1, axis=1)
    for block in writer.missing:
        view, rows = writer.header.rows_of(block)
        writer.write(block, slipped[view, rows])
    sealed = writer.seal()
    shutil.rmtree(right.folder)
    manifest = right.manifest
    store.commit(
        ref, sealed.folder, stage=manifest.stage, record=manifest.record,
        provenance=manifest.provenance, seconds=0.0,
    )  # fmt: skip

    done = distill(environment, "labels", "verify", cache, "--seed", "3")

    assert done.returncode == 1
    assert "✓ checksums" in done.stdout
    assert "✗ data" in done.stdout, done.stdout
    assert "✗ teacher" in done.stdout
    assert "256 random rows (seed 3)" in done.stdout
    assert done.stdout.endswith("failed\n")


def test_what_cannot_be_done_is_one_line(
    environment: dict[str, str], cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(environment["DISTILL_STORE"])
    Path("there.npz").touch()

    for arguments, message in (
        (("info", "nowhere"), "nowhere: no folder of a cache, and no key of one in the store"),
        (("head", cache, "--view", "2"), "--view: 2 of 2 views"),
        (("export", cache, "labels.csv"), "soft labels are written to .npz and .safetensors files"),
        (("export", cache, "there.npz"), "there.npz: is there already"),
        (("import", "nothing.npz", "new"), "nothing.npz: No such file or directory"),
        (("samples", "nothing.yaml", "new"), "nothing.yaml: No such file or directory"),
    ):
        done = distill(environment, "labels", *arguments)

        assert done.returncode == 2, arguments
        assert done.stderr.startswith("error: ")
        assert message in done.stderr
        assert done.stderr.count("\n") == 1


def test_the_example_of_a_teacher_elsewhere_works_as_printed(environment: dict[str, str], tmp_path: Path) -> None:
    spec, samples, labels = tmp_path / "spec.yaml", tmp_path / "samples", tmp_path / "labels.npz"
    shutil.copy(OUTSIDE / "spec.yaml", spec)

    written = distill(environment, "labels", "samples", spec, samples)
    forest = subprocess.run(
        [sys.executable, OUTSIDE / "forest.py", samples, labels],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    done = distill(environment, "run", spec)

    assert written.returncode == 0, written.stderr
    assert "4,000 rows, right on 94" in forest.stdout
    with LabelFile.open(labels) as file:
        assert len(file.facts.dataset_key) == 64
    assert done.returncode == 0, done.stderr
    assert "small better" in " ".join(done.stdout.split())


def test_labels_of_other_data_are_refused_by_the_pipeline(
    environment: dict[str, str], cache: str, write_spec: Callable[..., Path], tmp_path: Path
) -> None:
    assert distill(environment, "labels", "export", cache, tmp_path / "labels.npz").returncode == 0
    spec = write_spec(
        dataset={"name": "digits", "validation": 0.1},
        teacher={"soft_labels": str(tmp_path / "labels.npz")},
        soft_labels={"views": 2, "augmentation": {"shift": 1}},
    )

    done = distill(environment, "run", spec)

    assert done.returncode == 1
    assert "import soft labels from labels.npz: teacher.soft_labels: labels of 1,438 samples, and" in done.stderr


def test_a_teacher_elsewhere_sees_the_views_and_its_rows_are_in_their_order(
    environment: dict[str, str], write_spec: Callable[..., Path], tmp_path: Path
) -> None:
    seen = {"views": 2, "augmentation": {"shift": 1, "mixup": 0.3}}
    samples, right, shuffled = tmp_path / "samples", tmp_path / "right.npz", tmp_path / "shuffled.npz"
    wrote = distill(environment, "labels", "samples", write_spec(soft_labels=seen), samples)
    inputs, targets = np.load(samples / "inputs.npy"), np.load(samples / "targets.npy")
    facts = np.array((samples / "facts.json").read_text())
    logits = np.stack([8 * np.eye(10)[targets]] * 2)
    np.savez(right, logits=logits, facts=facts)
    np.savez(shuffled, logits=logits[:, np.random.default_rng(0).permutation(len(targets))], facts=facts)

    took = distill(environment, "run", write_spec(teacher={"soft_labels": str(right)}, soft_labels=seen))
    refused = distill(environment, "run", write_spec(teacher={"soft_labels": str(shuffled)}, soft_labels=seen))

    assert wrote.returncode == 0, wrote.stderr
    assert inputs.shape == (2, 1438, 1, 8, 8)
    assert not np.array_equal(inputs[0], inputs[1])
    assert took.returncode == 0, took.stderr
    assert refused.returncode == 1
    assert "no more than by chance: are the rows in the order of the training samples" in refused.stderr
