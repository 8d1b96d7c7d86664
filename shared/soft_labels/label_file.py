"""Label files: soft labels in one `.npz` or `.safetensors` file, for other programs and from them."""

from __future__ import annotations

import json
import math
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Protocol, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import save_file

from distill_queue.shared.errors import InvalidInput, InvalidSettings, InvalidSpec
from distill_queue.shared.files.array_file import HEADER_ERRORS, array_header
from distill_queue.shared.files.files import NoFile, opened_archive
from distill_queue.shared.files.folders import draft_folder
from distill_queue.shared.files.given_file import require_path, shown
from distill_queue.shared.files.weights_file import kind_of, opened_tensors
from distill_queue.shared.line import listed, shortened
from distill_queue.shared.soft_labels.cache import BLOCK_LOGITS, Augmentation, SoftLabels, SoftLabelsHeader
from distill_queue.shared.soft_labels.numerics import Array

SUFFIXES = (".npz", ".safetensors")
#: Largest facts or names of classes that are read, and how many names at the most: a row of logits is one block.
MOST_TEXT_BYTES = 16_000_000
MOST_CLASSES = BLOCK_LOGITS
#: The most names of other arrays in a message, and the most characters of one.
MOST_NAMED, LONGEST_NAME = 5, 40


class LabelFacts(BaseModel):
    """What a file may say of its labels, as JSON: text `facts` in an npz, metadata `facts` in safetensors."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    class_names: tuple[str, ...] = ()
    dataset_key: str = ""
    teacher_key: str = ""
    augmentation: Augmentation = {}
    augmentation_fingerprint: str = ""


class _Rows(Protocol):
    """Gives successive rows of `[views, samples, classes]`, taken as `[views * samples, classes]`."""

    def __call__(self, start: int, stop: int) -> Array: ...


class LabelFile:
    """An open file of logits `[samples, classes]` or `[views, samples, classes]`; read in order, block by block."""

    def __init__(self, name: str, shape: tuple[int, ...], facts: LabelFacts, rows: _Rows) -> None:
        self.name = name
        self.views, self.samples, self.classes = shape if len(shape) == 3 else (1, *shape)
        self.facts = facts
        self._rows = rows

    @classmethod
    @contextmanager
    def open(cls, path: Path, called: str = "") -> Iterator[Self]:
        """Open a file; nothing of it is unpickled, and no more than a block is held in memory.

        Args:
            path: the file.
            called: its name for errors, as the user wrote it; the path where nothing is given.

        Raises:
            InvalidSpec: it holds no logits; the message says what is wrong.
            OSError: it cannot be read.

        """
        name = called or str(path)
        if path.suffix not in SUFFIXES:
            raise InvalidSpec(f"{name}: soft labels are read from {' and '.join(SUFFIXES)} files")
        with ExitStack() as opened:
            with _parsing(name, path):
                source = _npz(path, name) if path.suffix == ".npz" else _safetensors(path, name)
                shape, dtype, facts, rows = opened.enter_context(source)
                if len(shape) not in (2, 3) or min(shape) < 1 or shape[-1] < 2:
                    given = shortened(str(shape), LONGEST_NAME)
                    raise InvalidSpec(
                        f"{name}: logits are [samples, classes] or [views, samples, classes], not {given}"
                    )
                if shape[-1] > MOST_CLASSES:
                    raise InvalidSpec(f"{name}: logits of {shape[-1]:,} classes: {MOST_CLASSES:,} are the most")
                if dtype.kind != "f":
                    raise InvalidSpec(f"{name}: logits are floating point numbers, not {dtype}")
                found = cls(name, shape, LabelFacts.model_validate_json(facts or "{}"), rows)
                names = found.facts.class_names
                if names and len(names) != found.classes:
                    raise InvalidSpec(f"{name}: {len(names)} class names, and logits of {found.classes} classes")
            yield found

    def blocks(self, header: SoftLabelsHeader) -> Iterator[tuple[int, Array]]:
        """Number and logits `[rows, classes]` of each block, in order; float32, or float16 as it is."""
        for block in range(header.blocks):
            view, rows = header.rows_of(block)
            first = view * self.samples
            with _parsing(self.name):
                logits = self._rows(first + rows.start, first + rows.stop)
            if not np.isfinite(logits).all():
                row = int(np.argwhere(~np.isfinite(logits))[0, 0]) + rows.start
                raise InvalidInput(f"{self.name}: sample {row:,} of view {view} has a logit that is not finite")
            if block == 0 and _are_probabilities(logits):
                raise InvalidInput(f"{self.name}: its rows are probabilities: give their logarithms")
            with np.errstate(over="ignore"):  # The writer finds what is too large.
                yield block, logits if logits.dtype == np.float16 else logits.astype(np.float32)


def _are_probabilities(logits: Array) -> bool:
    """Whether each row adds up to one, and nothing in it is negative: logits hardly ever do."""
    return bool((logits >= 0.0).all() and (np.abs(logits.sum(axis=1, dtype=np.float64) - 1.0) < 1e-2).all())


def export(labels: SoftLabels, path: Path) -> int:
    """Write a cache's logits as float16 where they are dense float16, else as float32; whole, or not at all.

    Returns:
        The file's size in bytes.

    Raises:
        InvalidSettings: the file is there, or cannot be written.

    """
    require_path(path)
    if path.suffix not in SUFFIXES:
        raise InvalidSettings(f"{shown(path)}: soft labels are written to {' and '.join(SUFFIXES)} files")
    header = labels.header
    facts = LabelFacts.model_validate(header.model_dump(include=set(LabelFacts.model_fields))).model_dump_json()
    try:
        if path.exists():
            raise InvalidSettings(f"{shown(path)}: is there already")
        with draft_folder(path.parent, f".{path.name}-") as folder:
            fresh = folder / path.name
            if path.suffix == ".npz":
                with zipfile.ZipFile(fresh, "w") as archive:
                    with archive.open("logits.npy", "w", force_zip64=True) as file:
                        _write_array(labels, file)
                    with archive.open("facts.npy", "w") as file:
                        np.lib.format.write_array(file, np.array(facts), allow_pickle=False)
            else:
                array = folder / "logits.npy"
                # Written, not mapped: on a full disk a mapped file would kill the process.
                with array.open("wb") as file:
                    _write_array(labels, file)
                save_file({"logits": np.load(array, mmap_mode="r")}, fresh, {"facts": facts})
                fresh.chmod(array.stat().st_mode)  # safetensors makes its file for one user alone.
            size_bytes = fresh.stat().st_size
            fresh.rename(path)
    except (OSError, SafetensorError) as error:
        raise InvalidSettings(f"{shown(path)}: {getattr(error, 'strerror', None) or error}") from error
    return size_bytes


def _write_array(labels: SoftLabels, file: IO[bytes]) -> None:
    """Write a cache's logits `[views, samples, classes]` as an `.npy` file, block by block."""
    header = labels.header
    dense16 = header.encoding.dtype == "float16" and header.encoding.top_k is None
    dtype = np.dtype("<f2" if dense16 else "<f4")
    shape = (header.views, header.samples, header.classes)
    np.lib.format.write_array_header_1_0(file, {"descr": dtype.str, "fortran_order": False, "shape": shape})
    for block in range(header.blocks):
        file.write(header.encoding.decode(labels.block(block), header.classes).astype(dtype, copy=False).data)


@contextmanager
def _parsing(name: str, path: Path | None = None) -> Iterator[None]:
    """Turn a parser's error about a bad file into `InvalidSpec`; errors of the disk or of a network share pass."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        where = shortened(".".join(map(str, first["loc"])), LONGEST_NAME)
        raise InvalidSpec(f"{name}: its facts: {where}: {first['msg']}") from None
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise InvalidSpec(f"{name}: {error.strerror}") from None
    except NoFile as error:
        raise InvalidSpec(f"{name}: {error}") from None
    except (
        *HEADER_ERRORS, LookupError, RuntimeError, zipfile.BadZipFile, zlib.error, SafetensorError,
    ) as error:  # fmt: skip
        of_another = isinstance(error, zipfile.BadZipFile | SafetensorError)
        problem = (kind_of(path) if of_another and path else "") or error
        raise InvalidSpec(f"{name}: no soft labels: {problem}") from error


@contextmanager
def _npz(path: Path, name: str) -> Iterator[tuple[tuple[int, ...], np.dtype[Any], str, _Rows]]:
    with opened_archive(path) as archive:
        names = set(archive.namelist())
        if "logits.npy" not in names:
            raise InvalidSpec(f"{name}: no array 'logits' (found: {_listed(sorted(names))})")
        facts: dict[str, Any] = {}
        if "facts.npy" in names:
            facts = json.loads(_text(archive, "facts.npy").item())
            if not isinstance(facts, dict):
                raise ValueError("facts are no JSON object")
        if "class_names.npy" in names:
            facts["class_names"] = _text(archive, "class_names.npy").tolist()
        with archive.open("logits.npy") as file:
            shape, fortran, dtype = array_header(file)
            if (length := archive.getinfo("logits.npy").file_size - file.tell()) != math.prod(shape) * dtype.itemsize:
                raise InvalidSpec(
                    f"{name}: logits {shortened(str(shape), LONGEST_NAME)} of {dtype} are not {length:,} bytes"
                )
            if fortran:
                raise InvalidSpec(f"{name}: logits are in Fortran's order: save numpy.ascontiguousarray(logits)")

            def rows(start: int, stop: int) -> Array:
                wanted = (stop - start) * shape[-1] * dtype.itemsize
                data = file.read(wanted)
                if len(data) != wanted:
                    raise InvalidSpec(f"{name}: ends within its logits")
                return np.frombuffer(data, dtype).reshape(-1, shape[-1])

            yield shape, dtype, json.dumps(facts), rows


def _text(archive: zipfile.ZipFile, name: str) -> Array:
    """An array of texts; its header is compared with its length before memory is taken for it."""
    what, size = name.removesuffix(".npy"), archive.getinfo(name).file_size
    if size > MOST_TEXT_BYTES:
        raise ValueError(f"{what} is larger than {MOST_TEXT_BYTES:,} bytes")
    with archive.open(name) as file:
        shape, _, dtype = array_header(file)
        if dtype.kind != "U":
            raise ValueError(f"{what} is {dtype}, not text")
        if (count := math.prod(shape)) > MOST_CLASSES or count * dtype.itemsize != size - file.tell():
            raise ValueError(f"{what} does not fit its header")
        content = file.read(count * dtype.itemsize)
        letters = np.frombuffer(content, np.dtype(np.uint32).newbyteorder(dtype.byteorder))
        if letters.size and letters.max() > sys.maxunicode:  # Else Python raises an error of its own later.
            raise ValueError(f"{what} has numbers that are no characters")
        return np.frombuffer(content, dtype, count).reshape(shape)


def _listed(names: Sequence[str]) -> str:
    short = [shortened(name.removesuffix(".npy"), LONGEST_NAME) for name in names]
    return listed([name if name.isprintable() else repr(name) for name in short], MOST_NAMED) or "nothing"


@contextmanager
def _safetensors(path: Path, name: str) -> Iterator[tuple[tuple[int, ...], np.dtype[Any], str, _Rows]]:
    with opened_tensors(path) as file:
        names = sorted(file.keys())
        if "logits" not in names:
            raise InvalidSpec(f"{name}: no tensor 'logits' (found: {_listed(names)})")
        tensor = file.get_slice("logits")
        shape = tuple(tensor.get_shape())
        types = {"F16": np.float16, "F32": np.float32, "F64": np.float64}
        if (dtype := tensor.get_dtype()) not in types:
            raise InvalidSpec(f"{name}: logits are float16, float32 or float64, not {dtype}")

        def rows(start: int, stop: int) -> Array:
            if len(shape) == 2:
                return np.asarray(tensor[start:stop])
            view, first = divmod(start, shape[1])
            return np.asarray(tensor[view, first : first + stop - start])

        yield shape, np.dtype(types[dtype]), (file.metadata() or {}).get("facts", ""), rows
