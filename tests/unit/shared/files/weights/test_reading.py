"""Weights as people have them: what torch.save wrote becomes the bytes that safetensors writes, and runs nothing."""

from __future__ import annotations

import argparse
import collections
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.files.weights import pickled
from distill_queue.shared.files.weights.reading import GivenWeights, read_weights

TYPES = (
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8),
    *(torch.uint8, torch.bool, torch.complex64, torch.uint16, torch.float8_e4m3fn, torch.float8_e5m2),
)


def written(weights: GivenWeights) -> bytes:
    return b"".join(weights.pieces())


def expected(path: Path, part: str = "") -> bytes:
    """What torch and safetensors make of a file."""
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    for key in filter(None, part.split(".")):
        loaded = loaded[key]
    return save({name: tensor.detach().clone().contiguous() for name, tensor in loaded.items()})


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Tensors of all types and of many shapes, some of them views into larger ones."""
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    numbers = torch.arange(max(1, int(np.prod([each + 2 for each in shape])))) % 7
    tensor = numbers.to(draw(st.sampled_from(TYPES))).reshape([each + 2 for each in shape] or [])
    for dimension, length in enumerate(shape):
        tensor = tensor.narrow(dimension, draw(st.integers(0, 2)), length)
    if draw(st.booleans()) and shape:
        tensor = tensor.permute(*draw(st.permutations(range(len(shape)))))
    if draw(st.booleans()) and shape and tensor.numel():
        tensor = tensor[:: draw(st.integers(1, 3))]
    return tensor


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), tensors(), min_size=1, max_size=5)
)
def test_what_torch_saved_becomes_what_safetensors_writes(tmp_path: Path, weights: dict[str, torch.Tensor]) -> None:
    torch.save(weights, tmp_path / "x.pth")

    assert written(read_weights(tmp_path / "x.pth")) == expected(tmp_path / "x.pth")


def test_shared_numbers_parameters_expanded_tensors_and_old_protocols_are_right(tmp_path: Path) -> None:
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3), "norm": nn.BatchNorm1d(3)})
    model["b"].weight = model["a"].weight
    both = torch.randn(6, 4)
    weights = model.state_dict() | {
        "parameter": nn.Parameter(torch.ones(2)),
        "whole": both,
        "half": both[3:].t(),
        "expanded": torch.ones(1, 3).expand(5, 3),
        "empty": torch.empty(0, 3),
    }
    torch.save(weights, tmp_path / "2.pth")

    assert written(read_weights(tmp_path / "2.pth")) == expected(tmp_path / "2.pth")
    for protocol in (3, 4, 5):
        torch.save(weights, tmp_path / "x.pth", pickle_protocol=protocol)
        assert written(read_weights(tmp_path / "x.pth")) == expected(tmp_path / "2.pth"), protocol


@pytest.mark.parametrize("part", ["state_dict", "model", "ema", "net.module"])
def test_weights_are_found_beside_what_a_training_saves_as_well(tmp_path: Path, part: str) -> None:
    layer = nn.Linear(3, 2)
    moments = {name: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(2)} for name in range(3)}
    inner: Any = layer.state_dict()
    for key in reversed(part.split(".")):
        inner = {key: inner}
    beside = {
        "epoch": 3,
        "best": torch.tensor(0.5),
        "loss": [0.5, 0.25, float("nan")],
        "optimizer": {"state": moments, "param_groups": [{"lr": 0.1, "params": [0, 1]}]},
        "args": argparse.Namespace(lr=1e-3, nested={"a": [1]}),
        "path": Path("x"),
        "counts": collections.defaultdict(list, {"a": [1]}),
        "numpy": np.float64(0.5),
        "array": np.ones(3),
        "device": torch.device("cpu"),
        "type": torch.float32,
        "size": torch.Size([1, 2]),
        "set": {1, 2},
        "shape": (1, None, True, b"x", 2**70),
    }
    torch.save(inner | beside, tmp_path / "x.ckpt")

    found = read_weights(tmp_path / "x.ckpt", "x.ckpt")

    assert written(found) == save({name: tensor.detach() for name, tensor in layer.state_dict().items()})
    assert found.notes == (f"its part '{part}'",)


class Command:
    """Runs a command when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Command(os.system, "touch pwned"), "posix.system"),
        (Command(eval, "open('pwned', 'w')"), "__builtin__.eval"),
        (Command(getattr, nn.Linear, "mro"), "__builtin__.getattr"),
        (nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
    ],
)
def test_what_would_run_code_is_refused_by_its_name_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: Any, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"a": torch.ones(2)}, "more": value}, "x.pth")

    with pytest.raises(InvalidSpec) as raised:
        read_weights(Path("x.pth"))

    assert str(raised.value).startswith(
        f"x.pth: it asks for '{name}', which weights do not need and nothing here runs;"
    )
    assert str(raised.value).endswith("save the weights alone: torch.save(model.state_dict(), 'weights.pth')")
    assert not Path("pwned").exists()


def test_nothing_is_unpickled_and_only_one_module_takes_pickles_apart() -> None:
    root = Path(pickled.__file__).resolve().parents[3]
    sources = {
        path.relative_to(root): path.read_text()
        for folder in ("shared", "scheduler")
        for path in (root / folder).rglob("*.py")
    }

    assert [
        str(path) for path, text in sources.items() if "import pickle\n" in text or "from pickle import" in text
    ] == []
    assert [str(path) for path, text in sources.items() if "import pickletools" in text] == [
        "shared/files/weights/pickled.py"
    ]


def test_a_file_of_torch_before_1_6_is_named_with_the_command_that_writes_it_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": torch.ones(2)}, "old.pth", _use_new_zipfile_serialization=False)

    with pytest.raises(InvalidSpec) as raised:
        read_weights(Path("old.pth"), "old.pth")

    said, _, code = str(raised.value).partition('python -c "')
    assert said == "old.pth: torch before 1.6 wrote it; this writes it anew: "
    exec(code.removesuffix('"'), {})
    assert read_weights(Path("old-new.pth")).tensors.keys() == {"a"}


def test_a_program_of_torchscript_is_called_one(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        for name in ("x/data.pkl", "x/code/__torch__.py", "x/constants.pkl"):
            archive.writestr(name, b"\x80\x02N.")

    with pytest.raises(InvalidSpec, match="it is a program of TorchScript; where it was made, save the weights alone"):
        read_weights(tmp_path / "x.pt")


def archive(
    path: Path, pickle_bytes: bytes, numbers: bytes = b"\0" * 16, compression: int = zipfile.ZIP_STORED
) -> Path:
    """An archive as torch.save writes it, of a pickle that torch.save would not write."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("x/data.pkl", pickle_bytes)
        file.writestr("x/byteorder", b"little")
        file.writestr("x/data/0", numbers)
    return path


def tensor_of(offset: int = 0, size: tuple[int, ...] = (4,), strides: tuple[int, ...] = (1,), count: int = 4) -> bytes:
    """A pickle of a mapping of one tensor."""

    class Tensor:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch._utils._rebuild_tensor_v2, (Storage(), offset, size, strides, False, collections.OrderedDict())

    class Storage:
        pass

    class Pickler(pickle._Pickler):  # type: ignore[name-defined]
        def persistent_id(self, each: Any) -> Any:
            return ("storage", torch.FloatStorage, "0", "cpu", count) if isinstance(each, Storage) else None

    import io

    Pickler(buffer := io.BytesIO(), 2).dump({"a": Tensor()})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (tensor_of(offset=1), "describes a tensor that reaches beyond its numbers"),
        (tensor_of(offset=-1), "describes a tensor that cannot be"),
        (tensor_of(size=(2,), strides=(4,)), "describes a tensor that reaches beyond its numbers"),
        (tensor_of(size=(1,) * 65, strides=(1,) * 65), "describes a tensor that cannot be"),
        (tensor_of(count=5), "numbers are missing: x/data/0 is too short"),
        (tensor_of(size=(10**6, 10**6), strides=(0, 0)), "bytes that claim to be 4,000,000,000,000 bytes of weights"),
        (b"\x80\x02}q\x00", "its pickle is damaged"),
        (b"", "its pickle is damaged"),
        (b"rubbish", "its pickle is damaged"),
        (b"\x80\x02]" + b"(" * 10_000 + b"." , "its pickle is damaged"),
        (b"\x80\x02}K\x01h\x05s.", "its pickle is damaged"),
        (b"\x80\x02" + b"}" * 100_000, "its pickle has more than 100,000 opcodes"),
        (b"\x80\x02}r\xff\xff\xff\xff.", "has no mapping of names to tensors"),
        (b"\x80\x02K\x01.", "has no mapping of names to tensors"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x.", "its pickle is damaged"),
        (b"\x80\x02" + b"K\x01" + b"\x85" * 20_000 + b"}s.", "its pickle is damaged"),
        (b"\x80\x02}" + b"K\x01" + b"\x85" * 20_000 + b"K\x01s.", "has no mapping of names to tensors"),
        (b"\x80\x02\x82\x01.", "its pickle has the opcode EXT1, which torch.save never writes"),
        (b"\x80\x02cposix\nsystem\n.", "it asks for 'posix.system'"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "it asks for 'posix.system'"),
        (b"\x80\x02iposix\nsystem\n.", "its pickle has the opcode INST, which torch.save never writes"),
    ],
)  # fmt: skip
def test_a_pickle_that_torch_never_writes_costs_no_time_and_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, said: str
) -> None:
    monkeypatch.setattr(pickled, "MOST_OPCODES", 100_000)

    with pytest.raises(InvalidSpec) as raised:
        read_weights(archive(tmp_path / "x.pth", content), "x.pth")

    assert str(raised.value).startswith("x.pth: ")
    assert said in str(raised.value)


def test_an_archive_that_is_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    packed = archive(tmp_path / "x.pth", tensor_of(count=10**6, size=(10**6,)), bytes(4 * 10**6), zipfile.ZIP_DEFLATED)
    (tmp_path / "y.pth").write_bytes(packed.read_bytes())

    with pytest.raises(InvalidSpec, match="its numbers are compressed or encrypted, which"):
        read_weights(packed)
    with pytest.raises(InvalidSpec, match="its pickle is larger than 20,000,000 bytes"):
        read_weights(archive(tmp_path / "z.pth", bytes(21 * 10**6), compression=zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_that_ends_too_early_is_refused_in_one_line(tmp_path: Path, share: float) -> None:
    torch.save({"a": torch.ones(100)}, tmp_path / "x.pth")
    content = (tmp_path / "x.pth").read_bytes()
    (tmp_path / "x.pth").write_bytes(content[: int(share * len(content))])

    with pytest.raises(
        InvalidSpec, match=r"^x.pth: no weights: (an empty file|an archive that ends too early)"
    ) as raised:
        read_weights(tmp_path / "x.pth", "x.pth")

    assert "\n" not in str(raised.value)


def test_a_file_that_becomes_shorter_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(100)}, path := tmp_path / "x.pth")
    found = read_weights(path, "x.pth")

    path.write_bytes(path.read_bytes()[:300])

    with pytest.raises(InvalidSpec, match=r"^x.pth: changed while it was read$"):
        written(found)


@pytest.mark.parametrize(
    ("listing", "said"),
    [
        ({"weight_map": {"a": "../a.safetensors"}}, "names '../a.safetensors', which does not lie beside it"),
        ({"weight_map": {"a": "b.safetensors"}}, "names b.safetensors, which is not there: copy all pieces"),
        ({"weight_map": {"b": "a.safetensors"}}, "a.safetensors lacks b, which it should have"),
        ({"weight_map": ["a"]}, "JSON text, and no list of the pieces of a model"),
        ([], "JSON text, and no list of the pieces of a model"),
    ],
)
def test_a_list_of_pieces_that_is_wrong_is_refused(tmp_path: Path, listing: Any, said: str) -> None:
    (tmp_path / "a.safetensors").write_bytes(save({"a": torch.ones(1)}))
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(listing))

    with pytest.raises(InvalidSpec, match=r"^m/model.safetensors.index.json: ") as raised:
        read_weights(tmp_path, "m")

    assert said in str(raised.value) or isinstance(listing, list)
