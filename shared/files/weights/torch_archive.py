"""Files of torch.save: a zip archive of a pickle, which says what the tensors are, and of their numbers."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from distill_queue.shared.files.files import opened, opened_archive
from distill_queue.shared.files.weights.pickled import Damaged, Global, Refused, values_of
from distill_queue.shared.files.weights.stored import SIZES, StoredTensor
from distill_queue.shared.files.weights_file import MOST_HEADER_BYTES, Tensor

#: The pickle of an archive, and other members that tell what it is.
PICKLE = "data.pkl"
#: How files of torch before 1.6 begin: with a pickle of this number.
LEGACY = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
#: Bytes of a member's own header in an archive, up to its name, and where the lengths of what follows stand in it.
LOCAL_HEADER_BYTES = 30
LOCAL_LENGTHS = slice(26, 30)
#: How deep mappings of tensors are looked for.
DEEPEST = 3
#: The most dimensions of a tensor, as NumPy has it.
MOST_DIMENSIONS = 64

_STORAGES = {
    "BoolStorage": "BOOL",
    "ByteStorage": "U8",
    "CharStorage": "I8",
    "ShortStorage": "I16",
    "IntStorage": "I32",
    "LongStorage": "I64",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "FloatStorage": "F32",
    "DoubleStorage": "F64",
    "ComplexFloatStorage": "C64",
}
_TYPES = {
    "torch.bool": "BOOL",
    "torch.uint8": "U8",
    "torch.int8": "I8",
    "torch.int16": "I16",
    "torch.int32": "I32",
    "torch.int64": "I64",
    "torch.uint16": "U16",
    "torch.uint32": "U32",
    "torch.uint64": "U64",
    "torch.float16": "F16",
    "torch.bfloat16": "BF16",
    "torch.float32": "F32",
    "torch.float64": "F64",
    "torch.float8_e4m3fn": "F8_E4M3",
    "torch.float8_e5m2": "F8_E5M2",
    "torch.complex64": "C64",
}
#: Storages of bytes, whose tensors say themselves of what type they are.
_UNTYPED = "torch.storage.UntypedStorage"
_STORAGE_CLASSES = {f"torch.{name}": dtype for name, dtype in _STORAGES.items()} | {_UNTYPED: "U8"}
_TENSOR = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3")
_PARAMETER = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
#: A tensor with attributes of its own: the function, the type, the function's arguments, the attributes.
_WITH_ATTRIBUTES = "torch._tensor._rebuild_from_type_v2"
_TENSOR_TYPES = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")
_KNOWN = {*_STORAGE_CLASSES, *_TYPES, *_TENSOR, *_PARAMETER, _WITH_ATTRIBUTES, *_TENSOR_TYPES}


@dataclass(frozen=True, slots=True)
class _Storage:
    """Numbers that tensors share."""

    dtype: str
    start: int
    count: int


def saved_in(path: Path) -> Any:
    """What was saved in a file of torch.save: mappings, lists and plain values, with a `StoredTensor` for each tensor.

    The numbers are not read, nor is anything of the pickle run.

    Raises:
        Damaged: it is no such archive, or ends too early.
        Refused: it holds more than weights.
        NoFile, NoArchive, OSError: as for `opened_archive`.

    """
    try:
        with opened_archive(path) as archive:
            members = {member.filename: member for member in archive.infolist()}
            root = _root(members)
            for name in (f"{root}{PICKLE}", f"{root}byteorder"):
                if name in members and members[name].file_size > MOST_HEADER_BYTES:
                    raise Refused(f"its pickle is larger than {MOST_HEADER_BYTES:,} bytes")
            if any(name.startswith(f"{root}code/") or name == f"{root}constants.pkl" for name in members):
                raise Refused("it is a program of TorchScript")
            if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
                raise Refused("its numbers are in the order of bytes of another kind of processor")
            pickle = archive.read(f"{root}{PICKLE}")
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise Damaged(f"the archive is damaged ({error})") from error
    with opened(path) as file:
        reader = _Reader(path, file, f"{root}data/", members, path.stat().st_size)
        return values_of(pickle, _KNOWN.__contains__, reader.make, reader.fetch)


def is_legacy(path: Path) -> bool:
    """Whether a file is of torch before 1.6, which wrote one pickle after the other."""
    with opened(path) as file:
        return file.read(32)[2:].startswith(LEGACY)


def _root(members: dict[str, zipfile.ZipInfo]) -> str:
    """The folder in the archive that the pickle lies in, with a slash, if it lies in one."""
    found = sorted((name for name in members if name.rpartition("/")[2] == PICKLE), key=len)
    if not found:
        raise Damaged(f"a zip archive without a '{PICKLE}', which torch.save always writes")
    return found[0].removesuffix(PICKLE)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Makes tensors of what a pickle says of them."""

    path: Path
    file: Any
    #: Folder of the numbers in the archive.
    folder: str
    members: dict[str, zipfile.ZipInfo]
    size: int

    def fetch(self, pid: Any) -> _Storage:
        """A storage, by what names it: `("storage", class, member, device, numbers)`."""
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and isinstance(pid[1], Global)):
            raise Damaged("its pickle names numbers in a way that torch.save never does")
        _, of, name, _, count = pid[:5]
        if of.name not in _STORAGE_CLASSES:
            raise Refused(f"its tensors are of {of.name!r}, which is no type of weights here")
        dtype = _STORAGE_CLASSES[of.name]
        member = self.members.get(f"{self.folder}{name}") if isinstance(name, str) else None
        if member is None or not _is_count(count):
            raise Damaged(f"numbers are missing: the archive has no {self.folder}{str(name)[:80]}")
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise Refused("its numbers are compressed or encrypted, which torch.save never does")
        start = self._start(member)
        if count * SIZES[dtype] > member.file_size or start + member.file_size > self.size:
            raise Damaged(f"numbers are missing: {member.filename} is too short")
        return _Storage(dtype, start, count)

    def make(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """A tensor, by the function that torch would call for it."""
        if name in _PARAMETER and arguments and isinstance(arguments[0], StoredTensor):
            return arguments[0]
        if name == _WITH_ATTRIBUTES and len(arguments) >= 3:
            function, of, inner = arguments[:3]
            if isinstance(function, Global) and isinstance(of, Global) and isinstance(inner, tuple):
                if of.name not in _TENSOR_TYPES:
                    raise Refused(f"it has a tensor of the type {of.name!r}, which is none of torch's own")
                return self.make(function.name, inner)
        if name in _TENSOR and len(arguments) >= 4:
            return self._tensor(arguments[6] if name.endswith("v3") else None, *arguments[:4])
        raise Damaged(f"its pickle calls {name!r} in a way that torch.save never does")

    def _tensor(self, dtype: Any, storage: Any, offset: Any, shape: Any, strides: Any) -> StoredTensor:
        if not isinstance(storage, _Storage) or not _is_count(offset) or not _are_counts(shape, strides):
            raise Damaged("its pickle describes a tensor that cannot be")
        of, count = storage.dtype, storage.count
        if dtype is not None:
            if not isinstance(dtype, Global) or dtype.name not in _TYPES:
                raise Refused(f"it has a tensor of the type {getattr(dtype, 'name', dtype)!r}, which safetensors lacks")
            count, of = count * SIZES[of] // SIZES[_TYPES[dtype.name]], _TYPES[dtype.name]
        found = StoredTensor(Tensor(shape, of), self.path, storage.start + offset * SIZES[of], strides)
        if prod(shape) and offset + found.span > count:
            raise Damaged("its pickle describes a tensor that reaches beyond its numbers")
        return found

    def _start(self, member: zipfile.ZipInfo) -> int:
        """The byte of the file at which a member's content begins."""
        self.file.seek(member.header_offset)
        header = self.file.read(LOCAL_HEADER_BYTES)
        if len(header) < LOCAL_HEADER_BYTES or not header.startswith(b"PK\x03\x04"):
            raise Damaged(f"the archive is damaged at {member.filename[:80]}")
        lengths = header[LOCAL_LENGTHS]
        name, extra = int.from_bytes(lengths[:2], "little"), int.from_bytes(lengths[2:], "little")
        return member.header_offset + LOCAL_HEADER_BYTES + name + extra


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _are_counts(shape: Any, strides: Any) -> bool:
    """Whether they are a shape, and a step for each of its dimensions."""
    both = (shape, strides)
    return all(
        isinstance(each, tuple) and len(each) <= MOST_DIMENSIONS and all(map(_is_count, each)) for each in both
    ) and len(shape) == len(strides)


def mappings_of(saved: Any) -> Iterator[tuple[str, dict[str, StoredTensor]]]:
    """The mappings of tensors in what was saved, each with its name: the keys on the way there, behind dots.

    A mapping counts whose values are tensors for the most part; others lie as a rule beside weights, not in them.
    Optimizers are passed over.
    """
    level, seen = [("", saved)], {id(saved)}
    for _ in range(DEEPEST + 1):
        below = []
        for name, value in level:
            if not isinstance(value, dict):
                continue
            tensors = {
                key: each for key, each in value.items() if isinstance(key, str) and isinstance(each, StoredTensor)
            }
            if 2 * len(tensors) > len(value):
                yield name, tensors
                continue
            for key, each in value.items():
                if isinstance(key, str) and isinstance(each, dict) and "optim" not in key and id(each) not in seen:
                    seen.add(id(each))
                    below.append((f"{name}.{key}" if name else key, each))
        level = below
