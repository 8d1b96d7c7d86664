"""Models of Hugging Face's hub, which is a server on loopback here."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.hub import serving

COMMIT, ANOTHER = "0123456789abcdef" * 2 + "01234567", "f" * 40
SCRIPT = """
    import sys

    import huggingface_hub.constants
    import torch
    from pydantic import TypeAdapter

    from distill_queue.shared.results.records import DatasetRecord, InputRecord
    from distill_queue.shared.spec.model import ModelSpec
    from distill_queue.worker import models
    from distill_queue.worker.machine.runtime import Runtime

    name, weights, *commits = sys.argv[1:]
    inputs = {
        "ids": InputRecord(kind="tokens", shape=(8,), largest=80, padding=0),
        "mask": InputRecord(kind="flags", shape=(8,)),
    }
    of_images = name.startswith("timm/")
    data = DatasetRecord(
        shape=(1, 32, 32) if of_images else (), inputs={} if of_images else inputs, class_names=("a", "b", "c"),
        train_samples=1, labelled_samples=1, validation_samples=0, test_samples=1, mean=(0.0,) * of_images,
        std=(1.0,) * of_images,
    )
    for commit in commits:
        if commit == "offline":
            huggingface_hub.constants.HF_HUB_OFFLINE = True
            continue
        values = {"name": name, "revision": commit} | ({"weights": weights} if of_images else {})
        try:
            spec = TypeAdapter(ModelSpec).validate_python(values)
            model = models.build(spec, data, Runtime(torch.device("cpu")), 1)
            print(f"{model.state_dict()[weights if not of_images else 'layer4.0.conv1.weight'].flatten()[0]:.4f}")
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
"""


def built(hub_address: str, cache: Path, *arguments: str) -> list[str]:
    """What the script prints for a model's name, its weights, and commits; what follows `offline` without the hub."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), *arguments],
        env=os.environ | {"HF_ENDPOINT": hub_address, "HF_HOME": str(cache)},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return done.stdout.splitlines()


def test_a_model_of_transformers_is_downloaded_at_its_commit_and_then_taken_from_the_cache(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=100, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    (model := transformers.BertModel(config)).save_pretrained(tmp_path / "small")
    given = f"{model.embeddings.word_embeddings.weight.detach().flatten()[0]:.4f}"

    with serving(tmp_path / "small", "owner/small", COMMIT, model=True) as hub:
        place = "model.bert.embeddings.word_embeddings.weight"
        found = built(
            hub.address, tmp_path / "cache", "huggingface/owner/small", place,
            COMMIT, ANOTHER, "offline", COMMIT, ANOTHER,
        )  # fmt: skip

    assert (found[0], found[2]) == (given, given)
    assert found[1].startswith(f"InvalidSpec: owner/small at {ANOTHER[:12]}: ")
    assert found[3].startswith(f"Unavailable: owner/small at {ANOTHER[:12]}: ")
    assert len([each for each in hub.asked if each.startswith("GET") and each.endswith("model.safetensors")]) == 1


def test_timms_weights_are_downloaded_at_their_commit_and_fitted_to_grey_images(tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    from safetensors.torch import save_file

    model = timm.create_model("test_resnet", num_classes=1000)
    (tmp_path / "hub").mkdir()
    save_file(dict(model.state_dict()), tmp_path / "hub" / "model.safetensors")
    given = f"{model.layer4[0].conv1.weight.detach().flatten()[0]:.4f}"

    with serving(tmp_path / "hub", "timm/test_resnet.r160_in1k", COMMIT, model=True) as hub:
        found = built(hub.address, tmp_path / "cache", "timm/test_resnet", "r160_in1k", COMMIT, "offline", COMMIT)
        other = built(hub.address, tmp_path / "cache", "timm/test_resnet", "nonsense", COMMIT)

    assert found == [given, given]
    assert other == ["InvalidSpec: timm/test_resnet has no weights 'nonsense': there are r160_in1k"]
