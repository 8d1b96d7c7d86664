"""Scores on held-out samples against scikit-learn's and torch's."""

from __future__ import annotations

import pytest
import torch
from sklearn import metrics
from torch.nn import functional

from distill_queue.shared.results.measure import Measure
from distill_queue.worker.data.split import Split
from distill_queue.worker.machine.inputs import Inputs
from distill_queue.worker.training.epochs.held_out import WORST_LOSS, held_out_scores

CLASSES, SAMPLES = 3, 50


@pytest.fixture
def data() -> Split:
    """Random samples of three values each, many of class 0."""
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, CLASSES, (SAMPLES,), generator=generator) * torch.randint(0, 2, (SAMPLES,))
    inputs = torch.randn(SAMPLES, CLASSES, generator=generator)
    return Split(inputs, targets, torch.zeros(CLASSES), torch.ones(CLASSES), labelled=SAMPLES)


def two_members(inputs: Inputs) -> torch.Tensor:
    """The values as logits; and with classes 0 and 2 exchanged."""
    assert isinstance(inputs, torch.Tensor)
    return torch.stack((inputs[0], inputs[1].flip(1)))


@pytest.mark.parametrize("measure", ["balanced_accuracy", "macro_f1", "loss"])
def test_each_member_is_measured_over_all_batches(data: Split, measure: Measure) -> None:
    found = held_out_scores(two_members, data, members=2, batch_size=16, measure=measure)

    logits = data.normalised(slice(None))
    assert isinstance(logits, torch.Tensor)
    assert found.measures is not None
    for accuracy, value, own in zip(found.accuracies, found.measures, (logits, logits.flip(1)), strict=True):
        targets, given = data.targets.numpy(), own.argmax(1).numpy()
        expected = {
            "balanced_accuracy": metrics.balanced_accuracy_score(targets, given),
            "macro_f1": metrics.f1_score(targets, given, average="macro"),
            "loss": functional.cross_entropy(own, data.targets).item(),
        }
        assert accuracy == pytest.approx(metrics.accuracy_score(targets, given))
        assert value == pytest.approx(expected[measure], rel=1e-5)


def test_the_accuracy_is_measured_once(data: Split) -> None:
    assert held_out_scores(two_members, data, members=2, batch_size=16, measure="accuracy").measures is None


def test_a_loss_that_is_not_finite_is_the_worst(data: Split) -> None:
    found = held_out_scores(lambda _: torch.full((1, SAMPLES, CLASSES), torch.nan), data, 1, SAMPLES, "loss")

    assert found.measures == [WORST_LOSS]
