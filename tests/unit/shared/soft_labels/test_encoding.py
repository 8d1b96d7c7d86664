from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from distill_queue.shared.errors import InvalidInput
from distill_queue.shared.soft_labels.encoding import Encoding, outside_mass
from distill_queue.shared.soft_labels.numerics import softmax

Logits = npt.NDArray[np.float32]

ENCODINGS = [
    Encoding(dtype=dtype, top_k=top_k) for dtype in ("float32", "float16", "uint8") for top_k in (None, 1, 3, 7)
]
TOP_K = [encoding for encoding in ENCODINGS if encoding.top_k]
IDS = [encoding.name for encoding in ENCODINGS]

finite = st.floats(-60.0, 60.0, width=32)
#: Of all sizes that an encoding with few bits takes; many of them equal.
any_size = finite | st.floats(-65_504.0, 65_504.0, width=32) | st.sampled_from([0.0, -0.0, 1.0, 1e-30, -65_504.0])


def rows(elements: st.SearchStrategy[float]) -> st.SearchStrategy[Logits]:
    shapes = st.tuples(st.integers(1, 5), st.integers(8, 40))
    return shapes.flatmap(lambda shape: arrays.arrays(np.float32, shape, elements=elements))


def of_temperature(logits: npt.NDArray[np.float64], temperature: float) -> npt.NDArray[np.float64]:
    scaled = logits / temperature
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("encoding", ENCODINGS, ids=IDS)
@given(logits=rows(any_size))
def test_what_is_kept_comes_back_within_the_stated_rounding(encoding: Encoding, logits: Logits) -> None:
    columns = encoding.encode(logits)

    decoded = encoding.decode(columns, logits.shape[1])

    for column, of in zip(encoding.columns(logits.shape[1]), columns, strict=True):
        assert (of.dtype, of.shape) == (column.dtype, (len(logits), column.width))
    kept = np.arange(logits.shape[1])[None].repeat(len(logits), 0) if encoding.top_k is None else columns[0]
    error = np.abs(np.take_along_axis(decoded.astype(float) - logits, kept.astype(int), axis=1)).max(axis=1)
    assert (error <= encoding.rounding(columns)).all()
    if encoding.dtype == "float32":
        assert not error.any()


@pytest.mark.parametrize("encoding", TOP_K, ids=IDS[1:4] + IDS[5:8] + IDS[9:])
@given(logits=rows(any_size))
def test_the_top_k_are_those_of_a_full_sort(encoding: Encoding, logits: Logits) -> None:
    indices = encoding.encode(logits)[0]

    # A stable sort of the negatives: of equal logits the first class.
    expected = np.argsort(-logits, axis=1, kind="stable")[:, : encoding.top_k]
    np.testing.assert_array_equal(indices, expected)


@pytest.mark.parametrize("encoding", TOP_K, ids=IDS[1:4] + IDS[5:8] + IDS[9:])
@given(logits=rows(finite))
def test_the_mass_outside_is_exact_at_temperature_1(encoding: Encoding, logits: Logits) -> None:
    columns, classes = encoding.encode(logits), logits.shape[1]
    inside = np.zeros_like(logits, dtype=bool)
    np.put_along_axis(inside, columns[0].astype(int), True, axis=1)

    mass = outside_mass(encoding, columns, classes, 1.0)

    exact = np.where(inside, 0.0, of_temperature(logits.astype(float), 1.0)).sum(axis=1)
    np.testing.assert_allclose(mass.estimate, exact, rtol=2e-5, atol=0.0)
    decoded = of_temperature(encoding.decode(columns, classes).astype(float), 1.0)
    np.testing.assert_allclose(np.where(inside, 0.0, decoded).sum(axis=1), exact, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("encoding", TOP_K, ids=IDS[1:4] + IDS[5:8] + IDS[9:])
@given(logits=rows(finite), temperature=st.floats(0.25, 50.0))
def test_the_mass_outside_lies_within_its_bounds_at_any_temperature(
    encoding: Encoding, logits: Logits, temperature: float
) -> None:
    columns, classes = encoding.encode(logits), logits.shape[1]
    inside = np.zeros_like(logits, dtype=bool)
    np.put_along_axis(inside, columns[0].astype(int), True, axis=1)

    mass = outside_mass(encoding, columns, classes, temperature)

    exact = np.where(inside, 0.0, of_temperature(logits.astype(float), temperature)).sum(axis=1)
    decoded = of_temperature(encoding.decode(columns, classes).astype(float), temperature)
    for value in (exact, np.where(inside, 0.0, decoded).sum(axis=1)):
        assert (mass.low <= value * (1 + 1e-4) + 1e-12).all()
        assert (value <= mass.high * (1 + 1e-4) + 1e-12).all()


@pytest.mark.parametrize("dtype", ["float16", "uint8"])
@given(logits=rows(finite), temperature=st.floats(0.25, 50.0))
def test_dense_probabilities_are_off_by_no_more_than_stated(dtype: Any, logits: Logits, temperature: float) -> None:
    encoding = Encoding(dtype=dtype)
    columns = encoding.encode(logits)

    decoded = np.log(of_temperature(encoding.decode(columns, logits.shape[1]).astype(float), temperature))

    exact = np.log(of_temperature(logits.astype(float), temperature))
    bound = 2 * encoding.rounding(columns)[:, None] / temperature
    assert (np.abs(decoded - exact) <= bound + 1e-9).all()


@pytest.mark.parametrize("encoding", ENCODINGS, ids=IDS)
@given(logits=rows(finite), data=st.data())
def test_a_row_is_stored_the_same_whatever_stands_beside_it(
    encoding: Encoding, logits: Logits, data: st.DataObject
) -> None:
    rows = data.draw(st.lists(st.integers(0, len(logits) - 1), min_size=1, max_size=4))

    whole, part = encoding.encode(logits), encoding.encode(logits[rows])

    for of_whole, of_part in zip(whole, part, strict=True):
        assert of_whole[rows].tobytes() == of_part.tobytes()


@pytest.mark.parametrize(
    ("classes", "dtype"), [(2, "u1"), (256, "u1"), (257, "u2"), (2_049, "u2"), (65_536, "u2"), (65_537, "u4")]
)
def test_indices_are_of_the_smallest_type_that_holds_every_class(classes: int, dtype: str) -> None:
    encoding = Encoding(dtype="float16", top_k=1)
    logits = np.zeros((1, classes), dtype=np.float32)
    logits[0, -1] = 1.0

    indices = encoding.encode(logits)[0]

    assert indices.dtype.str.endswith(dtype)
    assert indices.tolist() == [[classes - 1]]


@pytest.mark.parametrize("encoding", ENCODINGS, ids=IDS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused(encoding: Encoding, value: float) -> None:
    logits = np.zeros((3, 8), dtype=np.float32)
    logits[1, 2] = value

    with pytest.raises(InvalidInput, match="not finite: look at the teacher"):
        encoding.encode(logits)


@pytest.mark.parametrize("encoding", [each for each in ENCODINGS if each.dtype != "float32"])
@pytest.mark.parametrize("value", [65_519.0, 65_521.0, -1e6])
def test_logits_that_few_bits_cannot_hold_are_refused(encoding: Encoding, value: float) -> None:
    assume_refused = abs(value) > 65_520.0 or encoding.dtype == "uint8" or encoding.top_k is not None
    logits = np.zeros((1, 8), dtype=np.float32)
    logits[0, 2] = value

    if assume_refused:
        with pytest.raises(InvalidInput, match=r"beyond ±65,504: use soft_labels: \{dtype: float32\}"):
            encoding.encode(logits)
    else:
        assert encoding.decode(encoding.encode(logits), 8)[0, 2] == 65_504.0


def test_keeping_as_many_as_there_are_is_refused() -> None:
    with pytest.raises(InvalidInput, match="top_k: 10 of 10 classes: leave it out to keep all"):
        Encoding(dtype="float16", top_k=10).columns(10)


@given(logits=rows(finite))
def test_softmax_of_confident_rows_stays_confident(logits: Logits) -> None:
    """What is stored is logits: nothing is normalised twice, however the probabilities' sum is rounded."""
    logits[:, 0] = 100.0

    probabilities = softmax(Encoding(dtype="float16").decode(Encoding(dtype="float16").encode(logits), logits.shape[1]))

    assume(logits.shape[1] > 1)
    assert (probabilities[:, 0] > 0.999).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)
