"""Views against a plain reference, and against themselves in other batches."""

from __future__ import annotations

import hashlib
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill_queue.shared.spec.augmentation import AugmentationSpec, CropSpec, JitterSpec, RandAugmentSpec
from distill_queue.worker.data.views.augment import Augmented, augment
from distill_queue.worker.data.views.generator import draw, states
from tests.properties import examples

SAMPLES = 40
#: Random numbers of shift, flip, cutout and mixup.
PLACES = range(7)
EVERYTHING = AugmentationSpec(shift=2, flip=True, cutout=3, mixup=0.4, seed=7)
JITTER = JitterSpec(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
PHOTOGRAPHS = AugmentationSpec(
    crop=CropSpec(), flip=True, rotation=20.0, rand_augment=RandAugmentSpec(operations=4), jitter=JITTER,
    grayscale=0.2, cutmix=0.5, seed=7,
)  # fmt: skip

specs = st.builds(
    AugmentationSpec,
    shift=st.integers(0, 12),
    flip=st.booleans(),
    cutout=st.integers(0, 12),
    mixup=st.floats(0.0, 0.5),
    seed=st.integers(0, 2**32 - 1),
)
#: What photographs are changed by, beside the rest.
photograph_specs = st.builds(
    AugmentationSpec,
    flip=st.booleans(),
    crop=st.none() | st.just(CropSpec(area=(0.1, 1.0), ratio=(0.3, 2.0))),
    rotation=st.sampled_from([0.0, 25.0, 180.0]),
    rand_augment=st.none() | st.builds(RandAugmentSpec, operations=st.integers(1, 3), magnitude=st.integers(0, 30)),
    jitter=st.none() | st.just(JITTER),
    grayscale=st.sampled_from([0.0, 0.5]),
    cutmix=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
row_lists = st.lists(st.integers(0, SAMPLES - 1), min_size=1, max_size=9)
views = st.integers(0, 10_000)


def images(channels: int = 1, height: int = 7, width: int = 9, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    """Images without a pixel of 0, such that each 0 in a view was put there; fractions where the dtype has them."""
    random = torch.Generator().manual_seed(3)
    whole = torch.randint(1, 256, (SAMPLES, channels, height, width), generator=random)
    return (whole / 3).to(dtype) if dtype.is_floating_point else whole.to(dtype)


def uniform(seed: int, view: int | torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    return draw(states(seed, view, samples), PLACES)


def mixed(word: int) -> int:
    """SplitMix64's mixing function in Python's own integers."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
    return word ^ (word >> 31)


def stepped(state: int, steps: int = 1) -> int:
    return (state + steps * 0x9E3779B97F4A7C15) % 2**64


def draws_of(seed: int, view: int, sample: int) -> list[int]:
    """What `uniform` must draw, in Python's own integers."""
    state = mixed(stepped(mixed(stepped(mixed(stepped(seed)) + view)) + sample))
    return [mixed(stepped(state, draw)) >> 32 for draw in range(1, len(PLACES) + 1)]


def view_of(image: npt.NDArray[np.float32], draws: list[int], spec: AugmentationSpec) -> npt.NDArray[np.float32]:
    """A view without mixup of one image `[channels, height, width]`, pixel by pixel."""
    _, height, width = image.shape
    down, right = (spec.shift - (draw * (2 * spec.shift + 1) >> 32) for draw in draws[:2])
    middle_row, middle_column = draws[3] * height >> 32, draws[4] * width >> 32
    result = np.zeros_like(image)
    for y in range(height):
        for x in range(width):
            before = width - 1 - x if spec.flip and draws[2] >> 31 else x
            source_y, source_x = y - down, before - right
            cut = 0 <= y - middle_row + spec.cutout // 2 < spec.cutout
            cut = cut and 0 <= x - middle_column + spec.cutout // 2 < spec.cutout
            if 0 <= source_y < height and 0 <= source_x < width and not cut:
                result[:, y, x] = image[:, source_y, source_x]
    return result


def assert_same(one: Augmented, other: Augmented) -> None:
    assert torch.equal(one.inputs, other.inputs)
    assert torch.equal(one.partners, other.partners)
    assert torch.equal(one.shares, other.shares)


def test_the_generator_in_python_is_splitmix64_as_published() -> None:
    # https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64
    words = [mixed(stepped(1234567, step)) for step in range(1, 6)]

    assert words == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@examples(50)
@given(
    seed=st.integers(0, 2**32 - 1),
    view=st.integers(0, 2**40),
    samples=st.lists(st.integers(0, 2**40), min_size=1, max_size=70),
)
def test_numbers_are_those_of_the_same_arithmetic_in_python(seed: int, view: int, samples: list[int]) -> None:
    numbers = uniform(seed, view, torch.tensor(samples))

    assert numbers.dtype == torch.int64
    assert numbers.T.tolist() == [draws_of(seed, view, sample) for sample in samples]


@examples(60)
@given(spec=specs, view=views, rows=row_lists, channels=st.sampled_from([1, 3]))
def test_bytes_are_blended_to_the_last_bit_as_in_integers(
    spec: AugmentationSpec, view: int, rows: list[int], channels: int
) -> None:
    inputs = images(channels)

    batch = augment(inputs, torch.tensor(rows), view, spec)

    assert batch.inputs.dtype == batch.shares.dtype == torch.float32
    assert batch.partners.dtype == torch.int64
    assert batch.inputs.shape == (len(rows), channels, 7, 9)
    for place, row in enumerate(rows):
        draws = draws_of(spec.seed, view, row)
        partner = draws[5] * SAMPLES >> 32 if spec.mixup else row
        share = draws[6] * (int(spec.mixup * 256) + 1) >> 32
        image, other = (
            view_of(inputs[index].numpy(), draws_of(spec.seed, view, index), spec).astype(np.int32)
            for index in (row, partner)
        )
        expected = ((256 - share) * image + share * other).astype(np.float32) / 256
        assert (batch.partners[place].item(), batch.shares[place].item()) == (partner, share / 256)
        np.testing.assert_array_equal(batch.inputs[place].numpy(), expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64, torch.float32, torch.float64])
def test_any_stored_dtype_is_moved_as_it_is(dtype: torch.dtype) -> None:
    inputs = images(3, dtype=dtype)
    spec = AugmentationSpec(shift=2, flip=True, cutout=3)

    batch = augment(inputs, torch.arange(SAMPLES), 1, spec)

    expected = [view_of(inputs[row].float().numpy(), draws_of(0, 1, row), spec) for row in range(SAMPLES)]
    assert batch.inputs.dtype == torch.float32
    np.testing.assert_array_equal(batch.inputs.numpy(), np.stack(expected))


@examples(60)
@given(
    spec=specs | photograph_specs,
    view=views,
    rows=row_lists,
    random=st.randoms(use_true_random=False),
    dtype=st.sampled_from([torch.uint8, torch.float32]),
)
def test_a_view_is_the_same_whatever_batch_it_stands_in(
    spec: AugmentationSpec, view: int, rows: list[int], random: Random, dtype: torch.dtype
) -> None:
    inputs = images(3, dtype=dtype)
    order = list(range(len(rows)))
    random.shuffle(order)

    batch = augment(inputs, torch.tensor(rows), view, spec)
    reordered = augment(inputs, torch.tensor(rows)[order], view, spec)
    alone = [augment(inputs, torch.tensor([row]), view, spec) for row in rows]

    assert_same(reordered, Augmented(batch.inputs[order], batch.partners[order], batch.shares[order]))
    assert_same(batch, joined(alone))


@examples(40)
@given(
    spec=specs | photograph_specs, pairs=st.lists(st.tuples(st.integers(0, SAMPLES - 1), views), min_size=1, max_size=9)
)
def test_views_of_a_batch_may_differ_from_sample_to_sample(
    spec: AugmentationSpec, pairs: list[tuple[int, int]]
) -> None:
    inputs = images(3)
    rows, numbers = (torch.tensor(values) for values in zip(*pairs, strict=True))

    together = augment(inputs, rows, numbers, spec)
    one_by_one = [augment(inputs, torch.tensor([row]), view, spec) for row, view in pairs]

    assert_same(together, joined(one_by_one))


def joined(batches: list[Augmented]) -> Augmented:
    return Augmented(*(torch.cat([getattr(batch, name) for batch in batches]) for name in Augmented.__slots__))


@pytest.mark.parametrize(
    "change",
    [
        {"shift": 2},
        {"flip": True},
        {"cutout": 3},
        {"mixup": 0.4},
        {"crop": {}},
        {"rotation": 90},
        {"rand_augment": {}},
        {"jitter": {"brightness": 0.5}},
        {"jitter": {"hue": 0.5}},
        {"grayscale": 0.5},
        {"cutmix": 1.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_view_seed_or_sample_gets_other_draws(change: dict[str, Any]) -> None:
    blends = "mixup" in change or "cutmix" in change
    inputs = images(3) if blends else images(3)[:1].expand(SAMPLES, -1, -1, -1)
    rows = torch.arange(SAMPLES)

    first = augment(inputs, rows, 0, AugmentationSpec.model_validate(change))
    other_view = augment(inputs, rows, 1, AugmentationSpec.model_validate(change))
    other_seed = augment(inputs, rows, 0, AugmentationSpec.model_validate(change | {"seed": 1}))

    assert not torch.equal(first.inputs, other_view.inputs)
    assert not torch.equal(first.inputs, other_seed.inputs)
    assert not torch.equal(other_view.inputs, other_seed.inputs)
    assert any(not torch.equal(first.inputs[0], image) for image in first.inputs[1:])


def test_seed_view_and_sample_are_not_exchangeable() -> None:
    numbers = [uniform(seed, view, torch.tensor([sample])) for seed, view, sample in [(1, 2, 3), (3, 2, 1), (2, 1, 3)]]

    assert not torch.equal(numbers[0], numbers[1])
    assert not torch.equal(numbers[0], numbers[2])


def test_neighbouring_samples_views_and_seeds_draw_evenly_and_independently() -> None:
    samples = torch.arange(20_000)

    in_samples = uniform(0, 0, samples)
    in_views = uniform(0, samples, torch.zeros_like(samples))
    in_seeds = torch.cat([uniform(seed, 0, torch.zeros(1, dtype=torch.int64)) for seed in range(2_000)], dim=1)

    for numbers in (in_samples, in_views, in_seeds):
        fractions = numbers / 2**32
        count = fractions.shape[1]
        assert fractions.min() >= 0.0
        assert fractions.max() < 1.0
        # Of a uniform draw, mean 1/2 and variance 1/12; of independent ones, correlation 0: within 5 deviations.
        assert (fractions.mean(1) - 0.5).abs().max() < 5 * (1 / 12 / count) ** 0.5
        between_draws = fractions.corrcoef() - torch.eye(len(PLACES))
        assert between_draws.abs().max() < 5 / count**0.5
        for each in fractions:
            assert torch.stack((each[1:], each[:-1])).corrcoef()[0, 1].abs() < 5 / count**0.5


def test_each_shift_is_as_frequent_as_any_other_whether_mirrored_or_not() -> None:
    # A lit pixel in the middle of each image, right of it another that tells a mirrored image.
    inputs = torch.zeros(1, 1, 9, 11, dtype=torch.uint8)
    inputs[0, 0, 4, 5], inputs[0, 0, 4, 6] = 200, 100
    count = 20_000
    spec = AugmentationSpec(shift=2, flip=True)

    batch = augment(inputs.expand(count, -1, -1, -1), torch.arange(count), 0, spec).inputs.flatten(1)
    middle, beside = (batch == 200).int().argmax(1), (batch == 100).int().argmax(1)
    mirrored = beside < middle
    places, counts = torch.stack((mirrored.long(), middle // 11, middle % 11)).unique(dim=1, return_counts=True)

    assert places.shape[1] == 2 * 5 * 5
    assert places[1].unique().tolist() == [2, 3, 4, 5, 6]
    assert places[2].unique().tolist() == [3, 4, 5, 6, 7]
    # Chi-squared of 50 equal cells: 49 on average, above 100 once in 40 000 tables.
    expected = count / 50
    assert ((counts - expected) ** 2 / expected).sum() < 100


def test_a_shifted_image_leaves_zeros_behind() -> None:
    inputs = torch.arange(1, 13, dtype=torch.uint8).view(1, 1, 3, 4)
    inputs = inputs.expand(400, -1, -1, -1)

    batch = augment(inputs, torch.arange(400), 0, AugmentationSpec(shift=1)).inputs

    down_and_right = torch.tensor([[0, 0, 0, 0], [0, 1, 2, 3], [0, 5, 6, 7]]).float()
    up = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12], [0, 0, 0, 0]]).float()
    assert len(batch.unique(dim=0)) == 9
    for expected in (inputs[0, 0].float(), down_and_right, up):
        assert (batch == expected).flatten(1).all(1).any()


def test_a_shift_beyond_the_image_leaves_nothing_of_it() -> None:
    batch = augment(images(), torch.arange(SAMPLES), 0, AugmentationSpec(shift=64)).inputs

    empty = (batch == 0).flatten(1).all(1)
    assert 20 < empty.sum() <= SAMPLES


def test_half_of_the_images_are_mirrored_and_the_others_are_untouched() -> None:
    inputs = images(3)[:1].expand(10_000, -1, -1, -1)

    batch = augment(inputs, torch.arange(10_000), 0, AugmentationSpec(flip=True)).inputs

    straight = (batch == inputs[0]).flatten(1).all(1)
    mirrored = (batch == inputs[0].flip(2)).flatten(1).all(1)
    assert (straight ^ mirrored).all()
    assert abs(mirrored.sum().item() - 5_000) < 250


@pytest.mark.parametrize("side", [1, 2, 3, 4])
def test_a_cut_out_square_is_whole_inside_and_clipped_at_the_border(side: int) -> None:
    height, width, count = 8, 9, 4_000
    inputs = torch.full((1, 3, height, width), 9, dtype=torch.uint8).expand(count, -1, -1, -1)

    batch = augment(inputs, torch.arange(count), 0, AugmentationSpec(cutout=side)).inputs

    cut = batch == 0
    assert torch.equal(cut[:, 0], cut.any(1))
    assert torch.equal(cut[:, 0], cut.all(1))
    rows, columns = cut[:, 0].any(2).sum(1), cut[:, 0].any(1).sum(1)
    assert torch.equal(cut[:, 0].sum((1, 2)), rows * columns)
    assert rows.max() == columns.max() == side
    assert rows.min() == columns.min() == side - side // 2
    # Of `height` middles, side - 1 bring the square over a border.
    assert (rows == side).float().mean().item() == pytest.approx((height - side + 1) / height, abs=0.04)
    assert len(cut[:, 0].flatten(1).unique(dim=0)) == height * width


def test_mixup_blends_the_views_that_both_samples_have_without_it() -> None:
    inputs = images(3)
    rows = torch.arange(SAMPLES)
    plain = EVERYTHING.model_copy(update={"mixup": 0.0})

    mixed_up = augment(inputs, rows, 5, EVERYTHING)
    own = augment(inputs, rows, 5, plain).inputs.int()
    partners = augment(inputs, mixed_up.partners, 5, plain).inputs.int()

    parts = (mixed_up.shares * 256).int()
    weights = parts.view(-1, 1, 1, 1)
    assert torch.equal(mixed_up.inputs, ((256 - weights) * own + weights * partners).float() / 256)
    assert torch.equal(parts.float() / 256, mixed_up.shares)
    assert len(parts.unique()) > 10
    assert (mixed_up.partners != rows).any()


@examples(30)
@given(mixup=st.floats(0.0, 0.5), view=views)
def test_shares_reach_from_nothing_to_mixup_and_partners_over_all_samples(mixup: float, view: int) -> None:
    inputs = images(height=1, width=1)[:3]
    rows = torch.arange(3).repeat(40)

    batch = augment(inputs, rows, torch.arange(120) + view, AugmentationSpec(mixup=mixup))

    assert batch.shares.min() >= 0.0
    assert batch.shares.max() <= mixup
    assert batch.partners.unique().tolist() == [0, 1, 2]


def test_inputs_that_are_no_images_can_be_blended() -> None:
    vectors = images(height=1, width=1).flatten(1).float()

    batch = augment(vectors, torch.arange(SAMPLES), 0, AugmentationSpec(mixup=0.5))

    shares = batch.shares[:, None]
    torch.testing.assert_close(batch.inputs, (1 - shares) * vectors + shares * vectors[batch.partners])


def test_nothing_asked_is_nothing_done() -> None:
    inputs = images(3)
    rows = torch.tensor([4, 0, 4])

    batch = augment(inputs, rows, 9, AugmentationSpec(seed=5))

    assert_same(batch, Augmented(inputs[rows].float(), rows, torch.zeros(3)))
    assert batch.inputs.dtype == torch.float32


@pytest.mark.parametrize("spec", [EVERYTHING, PHOTOGRAPHS, AugmentationSpec()])
def test_the_stored_samples_are_left_as_they_are(spec: AugmentationSpec) -> None:
    inputs = images(3, dtype=torch.float32)
    before = inputs.clone()

    augment(inputs, torch.arange(SAMPLES), 0, spec).inputs.add_(1.0)

    assert torch.equal(inputs, before)


@pytest.mark.parametrize(
    "spec",
    [
        EVERYTHING,
        PHOTOGRAPHS.model_copy(update={"rand_augment": None}),
        AugmentationSpec(rand_augment=RandAugmentSpec(operations=1)),
    ],
    ids=["everything", "photographs", "rand_augment"],
)
def test_nothing_is_read_back_from_the_device(spec: AugmentationSpec) -> None:
    # A meta tensor has no values: code that asks for one fails here, and would wait on a real device.
    inputs, rows = images(3).to("meta"), torch.arange(5, device="meta")

    for view in (1, torch.arange(5, device="meta")):
        batch = augment(inputs, rows, view, spec)

        assert batch.inputs.is_meta
        assert batch.partners.is_meta
        assert batch.shares.is_meta


def test_views_are_those_that_stored_soft_labels_were_computed_on() -> None:
    # If this fails, every soft label of an augmented view that was stored before belongs to other pixels: a change of
    # the views is a new recipe version, never a new checksum alone.
    inputs = (torch.arange(16 * 3 * 8 * 8) * 37 % 251).to(torch.uint8).view(16, 3, 8, 8)

    batch = augment(inputs, torch.tensor([0, 15, 3, 3, 8]), torch.tensor([0, 1, 2, 999, 4]), EVERYTHING)

    digest = hashlib.sha256()
    for tensor in (batch.inputs, batch.partners, batch.shares):
        digest.update(tensor.numpy().tobytes())
    assert batch.partners.tolist() == [3, 8, 8, 7, 8]
    assert (batch.shares * 256).tolist() == [53, 93, 22, 88, 92]
    assert digest.hexdigest() == "e2459d9e61144e4fd165ebaa0f015b2f5265e1a2b308bae8ec5486b16c0e9244"
