"""Weights of classes against scikit-learn's, and what they do to a loss against torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from distill_queue.shared.errors import InvalidSpec
from distill_queue.worker.training.class_weights import class_weights
from distill_queue.worker.training.objective import Goal

NAMES = ("cat", "dog", "bird")


def test_balanced_weights_are_scikit_learns() -> None:
    targets = torch.tensor([0, 0, 0, 0, 1, 1, 2, -1, -1])

    weights = class_weights("balanced", NAMES, targets)

    assert weights is not None
    labelled = targets[:7].numpy()
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labelled)
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-6)


def test_a_class_without_samples_counts_once_and_is_none_of_those_that_are_balanced() -> None:
    weights = class_weights("balanced", NAMES, torch.tensor([0, 0, 0, 2]))

    assert weights is not None
    np.testing.assert_allclose(weights.numpy(), [4 / (2 * 3), 1.0, 4 / 2], rtol=1e-6)


def test_given_weights_are_by_name_and_the_others_are_1() -> None:
    weights = class_weights({"bird": 20.0}, NAMES, torch.tensor([0, 1, 2]))

    assert weights is not None
    assert weights.tolist() == [1.0, 1.0, 20.0]
    assert class_weights(None, NAMES, torch.tensor([0])) is None


def test_a_weight_for_an_unknown_class_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="class dogs is none of the 3 classes of the data; did you mean 'dog'"):
        class_weights({"dogs": 2.0}, NAMES, torch.tensor([0]))


def test_a_goal_without_a_teacher_has_torchs_weighted_loss() -> None:
    weights, targets = torch.tensor([1.0, 5.0, 0.5]), torch.tensor([0, 1, 2, 1])
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))

    loss = Goal(label_smoothing=0.1, class_weights=weights).loss(logits, None, targets, None, None, 1.0, 0.0)

    expected = functional.cross_entropy(logits, targets, weights, label_smoothing=0.1)
    torch.testing.assert_close(loss, expected)
