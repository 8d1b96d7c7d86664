"""Models: built for any small image, repeatable, and refused where they do not fit."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any, cast
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from distill_queue.shared.errors import InvalidSpec, Unavailable
from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.spec.model import ModelSpec
from distill_queue.shared.spec.models.cnn import CnnSpec
from distill_queue.shared.spec.models.custom import CustomModelSpec
from distill_queue.shared.spec.models.mlp import MlpSpec
from distill_queue.shared.spec.models.resnet import ResnetSpec
from distill_queue.shared.spec.models.torchvision import TorchvisionSpec
from distill_queue.worker import models
from distill_queue.worker.machine.recorded_step import can_repeat
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.models import Cnn, Mlp

CPU = Runtime(torch.device("cpu"))


def images(*shape: int, classes: int = 10) -> DatasetRecord:
    return DatasetRecord(
        shape=shape,
        class_names=tuple(map(str, range(classes))),
        train_samples=1,
        labelled_samples=1,
        validation_samples=0,
        test_samples=1,
        mean=(0.0,) * shape[0],
        std=(1.0,) * shape[0],
    )


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 8, 8)])
@pytest.mark.parametrize(
    "spec",
    [
        MlpSpec(hidden=(16,)),
        MlpSpec(hidden=()),
        MlpSpec(hidden=(16,), dropout=0.5, input_dropout=0.2),
        CnnSpec(width=4),
        CnnSpec(width=4, dropout=0.5),
        ResnetSpec(name="resnet8"),
        ResnetSpec(name="resnet20"),
    ],
)
def test_every_model_takes_every_image(spec: ModelSpec, shape: tuple[int, ...]) -> None:
    model = models.build(spec, images(*shape), CPU)

    assert model(torch.zeros(2, *shape)).shape == (2, 10)


@pytest.mark.parametrize(
    "spec",
    [
        MlpSpec(hidden=(16, 12)),
        MlpSpec(hidden=()),
        CnnSpec(width=4, depth=2),
        *(ResnetSpec(name=name) for name in ("resnet8", "resnet20")),
    ],
)
def test_the_weights_of_built_in_models_are_known_without_torch(spec: ModelSpec) -> None:
    own = models.build(spec, images(3, 8, 8), CPU).state_dict()

    known = spec.tensors((3, 8, 8), 10)
    of_any_data = spec.tensors(None, None)

    assert known == {name: tuple(tensor.shape) for name, tensor in own.items()}
    assert list(known) == list(own)
    whole = {name for name, tensor in own.items() if not tensor.is_floating_point()}
    assert whole == {name for name, shape in known.items() if not shape}
    assert of_any_data is not None
    assert of_any_data.keys() == known.keys()
    assert all(len(of_any_data[name]) == len(shape) for name, shape in known.items())


@pytest.mark.parametrize(
    ("prefix", "said"), [("", "names as torchvision has them"), ("module.", "names without 'module.'"), ("model.", "")]
)
def test_given_weights_of_a_torchvision_model_have_its_own_names(tmp_path: Path, prefix: str, said: str) -> None:
    one, other = (
        models.build(TorchvisionSpec(name="torchvision/squeezenet1_1"), images(1, 32, 32, classes=7), CPU, seed)
        for seed in (0, 1)
    )
    given = {f"{prefix}{name}": tensor.contiguous() for name, tensor in one.model.state_dict().items()}
    save_file(given, tmp_path / "given.safetensors")

    assert models.load_given(other, tmp_path / "given.safetensors", "given") == said

    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in one.state_dict().items())


def test_what_given_weights_of_a_torchvision_model_lack_is_named_as_torchvision_does(tmp_path: Path) -> None:
    model = models.build(TorchvisionSpec(name="torchvision/squeezenet1_1"), images(1, 32, 32, classes=7), CPU)
    weights = model.model.state_dict()
    given = {name: tensor.contiguous() for name, tensor in weights.items() if "classifier" not in name}
    save_file(given, tmp_path / "given.safetensors")

    with pytest.raises(InvalidSpec, match=r"^x: not the weights .* missing classifier.1.weight, classifier.1.bias$"):
        models.load_given(model, tmp_path / "given.safetensors", "x")


def test_the_main_job_has_the_sizes_it_is_known_by() -> None:
    teacher = models.build(MlpSpec(hidden=(512, 256)), images(1, 28, 28), CPU)
    student = models.build(MlpSpec(hidden=(128,)), images(1, 28, 28), CPU)

    assert (models.parameters(teacher), models.parameters(student)) == (535_818, 101_770)


def test_resnet20_has_the_size_of_the_paper() -> None:
    model = models.build(ResnetSpec(name="resnet20"), images(3, 32, 32), CPU)

    assert models.parameters(model) == pytest.approx(0.27e6, rel=0.02)  # He et al. 2015, table 6.


def test_a_torchvision_model_gets_a_head_for_the_classes_and_takes_grey_images() -> None:
    model = models.build(TorchvisionSpec(name="torchvision/squeezenet1_1"), images(1, 32, 32, classes=7), CPU)

    assert model.eval()(torch.zeros(2, 1, 32, 32)).shape == (2, 7)


def test_a_seed_gives_the_same_weights_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    one, same, other = (models.build(MlpSpec(hidden=(4,)), images(1, 8, 8), CPU, seed) for seed in (1, 1, 2))

    assert torch.equal(one.head.weight, same.head.weight)
    assert not torch.equal(one.head.weight, other.head.weight)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_come_back_as_they_were_saved(tmp_path: Path) -> None:
    spec, data = CnnSpec(width=4, depth=2), images(1, 8, 8)
    saved, loaded = models.build(spec, data, CPU, 1), models.build(spec, data, CPU, 2)

    models.save(saved, tmp_path / "model.safetensors")
    models.load(loaded, tmp_path / "model.safetensors")

    assert all(
        torch.equal(a, b) for a, b in zip(saved.state_dict().values(), loaded.state_dict().values(), strict=True)
    )


def test_weights_from_before_batch_norm_counted_its_batches_are_taken(tmp_path: Path) -> None:
    spec, data = CnnSpec(width=4, depth=2), images(1, 8, 8)
    saved, loaded = models.build(spec, data, CPU, 1), models.build(spec, data, CPU, 2)
    weights = {name: each for name, each in saved.state_dict().items() if not name.endswith("num_batches_tracked")}

    save_file({name: each.contiguous() for name, each in weights.items()}, tmp_path / "old.safetensors")
    models.load(loaded, tmp_path / "old.safetensors")

    assert all(torch.equal(loaded.state_dict()[name], each) for name, each in weights.items())


class _Renaming(nn.Linear):
    """A layer that also reads weights by the name that it gave them before."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        if f"{prefix}kernel" in state_dict:
            state_dict[f"{prefix}weight"] = state_dict.pop(f"{prefix}kernel").T
        super()._load_from_state_dict(state_dict, prefix, *others)  # type: ignore[no-untyped-call]


def test_weights_that_a_module_reads_by_older_names_are_taken(tmp_path: Path) -> None:
    model, kernel = nn.Sequential(_Renaming(3, 2)), torch.randn(3, 2)

    save_file({"0.kernel": kernel, "0.bias": torch.zeros(2)}, tmp_path / "old.safetensors")
    models.load(model, tmp_path / "old.safetensors")

    assert torch.equal(model.state_dict()["0.weight"], kernel.T)


def test_quantised_weights_are_not_taken_for_others(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2, 3, dtype=torch.int8), "bias": torch.zeros(2)}, tmp_path / "small.safetensors")

    with pytest.raises(InvalidSpec, match=r"small.safetensors: .*weight is of type I8, not a floating point number"):
        models.load(nn.Linear(3, 2), tmp_path / "small.safetensors")


def test_weights_of_another_model_and_rubbish_are_refused(tmp_path: Path) -> None:
    data = images(1, 8, 8)
    models.save(models.build(MlpSpec(hidden=(4,)), data, CPU), tmp_path / "four.safetensors")
    (tmp_path / "rubbish.safetensors").write_bytes(b"\x80\x04pickle")
    model = models.build(MlpSpec(hidden=(5,)), data, CPU)

    with pytest.raises(InvalidSpec, match=r"four\.safetensors: not the weights of this model: layers.0.weight is"):
        models.load(model, tmp_path / "four.safetensors")
    with pytest.raises(InvalidSpec, match="no safetensors file"):
        models.load(model, tmp_path / "rubbish.safetensors")


def test_users_code_is_imported_from_allowed_packages_only() -> None:
    spec = CustomModelSpec(name="torch.nn:Identity")

    with pytest.raises(InvalidSpec, match=r"does not import 'torch'.*DISTILL_PLUGINS=torch"):
        models.build(spec, images(1, 8, 8), CPU)
    allowed = Runtime(CPU.device, plugins=("torch",))
    with pytest.raises(InvalidSpec, match="no attribute 'Absent'"):
        models.build(CustomModelSpec(name="torch.nn:Absent"), images(1, 8, 8), allowed)


def test_a_model_that_does_not_exist_or_fit_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="torchvision/absent"):
        models.build(TorchvisionSpec(name="torchvision/absent"), images(1, 8, 8), CPU)
    with pytest.raises(InvalidSpec, match="does not take samples of shape"):
        models.build(CnnSpec(), images(5), CPU)


def test_pretrained_weights_are_taken_but_for_the_head(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torchvision.models import get_model

    given = get_model("squeezenet1_1", weights=None).state_dict()
    asked: list[str] = []

    def download(url: str, **options: Any) -> dict[str, torch.Tensor]:
        asked.append(url)
        assert options["check_hash"]
        return given

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    spec = TorchvisionSpec(name="torchvision/squeezenet1_1", weights="IMAGENET1K_V1")
    data = images(3, 32, 32, classes=7)

    model = models.build(spec, data, CPU, seed=1)
    without = models.build(spec, data, CPU)

    assert len(asked) == 1, "weights that are to be replaced are not downloaded"
    assert "squeezenet1_1" in asked[0]
    weights = {name.removeprefix("model."): tensor for name, tensor in model.state_dict().items()}
    fitting = [name for name in given if given[name].shape == weights[name].shape]
    assert len(given) - len(fitting) == 2, "the head's weight and bias"
    assert all(torch.equal(weights[name], given[name]) for name in fitting)
    assert weights.keys() == {name.removeprefix("model.") for name in without.state_dict()}


@pytest.mark.filterwarnings("ignore:The default weight init:FutureWarning")
def test_a_model_with_several_outputs_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="several outputs in training"):
        models.build(TorchvisionSpec(name="torchvision/googlenet"), images(3, 64, 64), CPU)


def test_unknown_weights_are_refused_and_a_failed_download_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = TorchvisionSpec(name="torchvision/squeezenet1_1", weights="IMAGENET1K_V9")
    with pytest.raises(InvalidSpec, match="has no weights 'IMAGENET1K_V9': there are IMAGENET1K_V1"):
        models.build(spec, images(3, 32, 32), CPU, seed=1)

    def away(url: str, **_: Any) -> None:
        raise URLError(OSError(errno.EHOSTUNREACH, "No route to host"))

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", away)
    said = (
        r"squeezenet1_1-b8a52dc0.pth, the weights of torchvision/squeezenet1_1, is not in "
        r"downloads/checkpoints, and the download failed: .*"
        r"No route to host.*: without a network, put https://.*/squeezenet1_1-b8a52dc0.pth there"
    )
    with pytest.raises(Unavailable, match=said):
        models.build(spec.model_copy(update={"weights": "IMAGENET1K_V1"}), images(3, 32, 32), CPU, seed=1)


def test_dropout_is_of_the_outputs_of_hidden_layers_and_of_inputs_and_in_training_only() -> None:
    spec = MlpSpec(hidden=(1_000,), dropout=0.5, input_dropout=0.2)
    model = models.build(spec, images(1, 40, 40), CPU, seed=0)
    plain = models.build(MlpSpec(hidden=(1_000,)), images(1, 40, 40), CPU, seed=0)
    inputs = torch.ones(1, 1, 40, 40)
    layer, seen = cast("Mlp", model).layers[0], []
    layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    head, hidden = cast("Mlp", model).head, []
    head.register_forward_pre_hook(lambda _, given: hidden.append(given[0].detach()))

    in_eval = model.eval()(inputs)
    model.train()(inputs)

    assert torch.equal(in_eval, plain.eval()(inputs))
    assert (seen[1] == 0).float().mean() == pytest.approx(0.2, abs=0.05)
    assert seen[1].max() == pytest.approx(1 / 0.8)
    positive = hidden[0] > 0
    assert (hidden[1][positive] == 0).float().mean() > 0.4


def test_dropout_of_a_cnn_comes_before_its_head_and_in_training_only() -> None:
    model = models.build(CnnSpec(width=512, depth=1, dropout=0.3), images(1, 4, 4), CPU, seed=0)
    plain = models.build(CnnSpec(width=512, depth=1), images(1, 4, 4), CPU, seed=0)
    inputs, seen = torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(0)), []
    cast("Cnn", model).head.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))

    in_eval = model.eval()(inputs)
    with torch.random.fork_rng(devices=[]):
        model.train()(inputs)

    assert torch.equal(in_eval, plain.eval()(inputs))
    assert (seen[0] == 0).float().mean() < 0.05
    assert (seen[1] == 0).float().mean() == pytest.approx(0.3, abs=0.05)


def test_models_with_dropout_are_neither_stacked_nor_recorded_and_models_without_keep_their_words() -> None:
    with_dropout, without = MlpSpec(hidden=(8,), dropout=0.1), MlpSpec(hidden=(8,))

    assert not with_dropout.stackable
    assert without.stackable
    assert not can_repeat([models.build(with_dropout, images(1, 4, 4), CPU)])
    assert can_repeat([models.build(without, images(1, 4, 4), CPU)])
    assert without.model_dump(mode="json") == {"name": "mlp", "hidden": [8]}
    assert CnnSpec().model_dump(mode="json") == {"name": "cnn", "width": 32, "depth": 3}
    assert can_repeat([models.build(CnnSpec(width=4), images(1, 4, 4), CPU)])
    assert not can_repeat([models.build(CnnSpec(width=4, dropout=0.1), images(1, 4, 4), CPU)])
