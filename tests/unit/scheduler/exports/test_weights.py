"""The weights of an exported student, named as the library of its model names them."""

from __future__ import annotations

import numpy as np
from safetensors.numpy import load, save

from distill_queue.scheduler.exports.weights import weights_of

TENSORS = {"model.model.weight": np.arange(6, dtype=np.float32), "model.bias": np.ones(3, np.float16)}


def test_a_wrappers_prefix_is_taken_off_once_and_no_number_changes() -> None:
    named = load(weights_of(save(TENSORS), "torchvision"))

    assert set(named) == {"model.weight", "bias"}
    assert (named["model.weight"] == TENSORS["model.model.weight"]).all()
    assert named["bias"].dtype == np.float16


def test_the_names_of_other_models_stay() -> None:
    assert set(load(weights_of(save(TENSORS), "custom"))) == set(TENSORS)


def test_the_same_weights_are_the_same_bytes_whatever_else_their_file_says() -> None:
    assert weights_of(save(TENSORS, {"made": "today"}), "mlp") == weights_of(save(TENSORS), "mlp")
