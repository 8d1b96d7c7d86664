"""The gate: which answers of a file are the student's, at any size of logits, and which say nothing."""

from __future__ import annotations

import numpy as np
import pytest

from distill_queue.shared.errors import StageFailed
from distill_queue.worker.exports.gate import Comparison, Logits, require_each_alone

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(0, 3, (200, 4)).astype(np.float32)
TARGETS = LOGITS.argmax(1)


def compared(logits: Logits, of_model: Logits) -> Comparison:
    return Comparison.of(logits, of_model, of_model.argmax(1))


@pytest.mark.parametrize("size", [1e-12, 1e-3, 1.0, 1e4, 1e12])
def test_what_is_allowed_grows_with_the_logits(size: float) -> None:
    logits = (LOGITS * size).astype(np.float32)
    reach = np.ptp(logits, axis=0).max()

    compared(logits + np.float32(0.5e-5 * reach), logits).require_same("export")

    with pytest.raises(StageFailed, match=r"export: the exported file answers otherwise .* times what is allowed"):
        compared(logits + np.float32(4e-5 * reach), logits).require_same("export")


def test_a_class_that_is_always_at_minus_ten_thousand_hides_no_difference_of_the_others() -> None:
    logits = LOGITS.copy()
    logits[:, 3] = -1e4
    rounded, other = logits.copy(), logits.copy()
    rounded[:, 3] += np.float32(2e-3)
    other[:, 0] += np.float32(0.05)

    compared(rounded, logits).require_same("export")

    with pytest.raises(StageFailed, match=r"a logit differs by 0.05"):
        compared(other, logits).require_same("export")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_are_refused_with_their_sample(value: float) -> None:
    broken = LOGITS.copy()
    broken[7, 2] = value

    with pytest.raises(StageFailed, match="the exported file answers test sample 7 with logits that are not finite"):
        compared(broken, LOGITS)
    with pytest.raises(StageFailed, match="the student answers test sample 7 "):
        compared(LOGITS, broken)


@pytest.mark.parametrize("noise", [0.0, 1e-7])
def test_logits_that_are_the_same_for_all_samples_are_refused_also_where_rounding_tells_them_apart(
    noise: float,
) -> None:
    row = np.array([3.0, -2.0, 5.0, 1.0])
    constant = (row * (1 + noise * RANDOM.normal(size=(200, 1)))).astype(np.float32)

    with pytest.raises(
        StageFailed, match=r"the student answers every test sample with the same logits: .* batch norms"
    ):
        compared(constant, constant)


def test_a_single_test_sample_is_compared_by_how_far_its_own_logits_are_apart() -> None:
    one = LOGITS[:1]

    compared(one + np.float32(1e-6), one).require_same("export")

    with pytest.raises(StageFailed, match="of 1 test samples"):
        compared(one + np.float32(1e-2), one).require_same("export")


def test_a_tie_that_rounding_breaks_otherwise_changes_a_class_and_passes() -> None:
    logits = LOGITS.copy()
    logits[0] = (1.0, 1.0, 0.0, 0.0)
    other = logits.copy()
    other[0, 1] += np.float32(1e-6)

    found = compared(other, logits)

    found.require_same("export")
    assert found.disagreeing == 1


def test_integers_may_lose_what_is_tolerated_and_the_message_counts_what_is_lost() -> None:
    other = LOGITS.copy()
    other[:4] = -other[:4]
    found = compared(other, LOGITS)

    found.require_accurate("export", 2.0)

    with pytest.raises(StageFailed, match=r"2\.00 points or 4 samples are lost, and export\.tolerance is 1\.9"):
        found.require_accurate("export", 1.9)


@pytest.mark.parametrize("integers", [False, True])
def test_a_file_that_answers_a_sample_by_the_others_is_refused(integers: bool) -> None:
    require_each_alone("export", LOGITS, LOGITS.copy(), integers=integers)

    with pytest.raises(StageFailed, match=r"export: .* otherwise when it is alone than among others"):
        require_each_alone("export", LOGITS - LOGITS.mean(0) + 2, LOGITS, integers=integers)
    with pytest.raises(StageFailed, match="otherwise when it is alone"):
        require_each_alone("export", LOGITS, np.full_like(LOGITS, np.nan), integers=integers)
