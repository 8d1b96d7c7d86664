"""Given weights, as far as a client can read them without torch: the names, shapes and types of their tensors."""

from __future__ import annotations

import shlex
import struct
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.files.files import NoArchive, NoFile, opened, opened_archive
from distill_queue.shared.line import listed, shortened

#: The last layer's weights `[classes, features]` in every built-in model.
HEAD = "head.weight"
#: Largest header of a safetensors file that is read: of some hundred thousand tensors.
MOST_HEADER_BYTES = 20_000_000
#: Tensors of each kind of difference that are named one by one.
MOST_NAMED = 3
#: The most characters of a tensor's name in a message.
LONGEST_NAME = 80

#: How the names of tensors end that a checkpoint may lack, like those of torch before 0.4.1: torch takes 0 for them.
OPTIONAL = "num_batches_tracked"
#: Prefixes of tensors' names, and what adds them; any other common prefix is found too.
KNOWN_PREFIXES = {
    "module.": "DataParallel does so",
    "_orig_mod.": "torch.compile does so",
    "model.": "Lightning and other wrappers do so",
}

#: Characters that a shell obeys within double quotes.
_OF_SHELLS = frozenset('"$`\\!')

T = TypeVar("T")

#: A tensor's shape; None stands for a length that is not known, which fits any.
Shape = tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """What a file says of a tensor before it is read."""

    shape: tuple[int, ...]
    #: As safetensors writes it: `F32`, `BF16`, `I64`.
    dtype: str


def tensors_in(path: Path, called: str = "") -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, from its header alone.

    Args:
        path: the file.
        called: its name for the error, as the user wrote it; the path where nothing is given.

    Raises:
        InvalidSpec: it is no safetensors file, or cannot be read; the message says what it is, and what to do.

    """
    name = called or str(path)
    try:
        with opened_tensors(path) as weights:
            slices = {each: weights.get_slice(each) for each in weights.keys()}  # noqa: SIM118 (it is no mapping)
            return {each: Tensor(tuple(it.get_shape()), it.get_dtype()) for each, it in slices.items()}
    except OSError as error:
        raise InvalidSpec(f"{name}: {error.strerror or error}") from error
    except NoFile as error:
        raise InvalidSpec(f"{name}: {error}") from None
    except SafetensorError as error:
        raise InvalidSpec(f"{name}: no safetensors file: {kind_of(path) or _broken_off(path) or error}") from error


@contextmanager
def opened_tensors(path: Path) -> Iterator[Any]:
    """A safetensors file, opened for NumPy; the library itself would wait for a pipe, and read a header of any length.

    Raises:
        NoFile: it is no regular file.
        SafetensorError: it is damaged, or no safetensors file.
        OSError: it cannot be opened.

    """
    with opened(path) as file:
        length = int.from_bytes(file.read(8), "little")
    if MOST_HEADER_BYTES < length <= path.stat().st_size:
        raise SafetensorError(f"its header is longer than {MOST_HEADER_BYTES:,} bytes")
    with safe_open(path, framework="numpy") as tensors:
        yield tensors


def kind_of(path: Path) -> str:
    """What a file is that is not what was asked for, by its first bytes; empty if these do not tell."""
    try:
        with opened(path) as file:
            start = file.read(512)
        size = path.stat().st_size
    except (OSError, NoFile):
        return ""
    if not start:
        return "an empty file"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, which a download brought in place of the file"
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS: 'git lfs pull' brings the file itself"
    if start.lstrip().startswith(b"{"):
        return "JSON text"
    for beginning, kind in _BEGINNINGS.items():
        if start.startswith(beginning):
            return kind
    if kind := _kind_of_archive(path):
        return kind
    if start.startswith(b"PK"):
        return "an archive that ends too early: the copy or download broke off"
    header = int.from_bytes(start[:8], "little")
    if start[8:9] == b"{" and header > size - 8:
        return f"safetensors that ends too early, at byte {size:,}: the copy or download broke off"
    return ""


_BEGINNINGS = {
    b"\x80": "a pickle, as torch.save writes it",
    b"\x89HDF": "an HDF5 file, as Keras writes it",
    b"GGUF": "a GGUF file",
    b"\x1f\x8b": "a gzip archive: unpack it",
    b"\x93NUMPY": "an array of NumPy's",
}


def _kind_of_archive(path: Path) -> str:
    try:
        with opened_archive(path) as archive:
            names = archive.namelist()
    except NoArchive:
        return "a zip archive"
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error) as error:
        return "" if str(error) == "File is not a zip file" else "a damaged zip archive"
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return "a pickle, as torch.save writes it"
    return "arrays of NumPy's" if any(name.endswith(".npy") for name in names) else "a zip archive"


def _broken_off(path: Path) -> str:
    """What is wrong if the header is whole and its tensors do not fit into the file; empty otherwise."""
    try:
        with opened(path) as file:
            length = int.from_bytes(file.read(8), "little")
            brace = file.read(1)
        whole = brace == b"{" and 8 + length <= path.stat().st_size
    except (OSError, NoFile):
        return ""
    return "its tensors are cut off, or overlap: copy or download it again" if whole else ""


@dataclass(frozen=True, slots=True)
class Renaming:
    """What is taken off tensors' names, or put before them, so that they are those of a model."""

    prefix: str
    added: bool

    def of(self, tensors: Mapping[str, T]) -> dict[str, T]:
        """Tensors by their new names."""
        if self.added:
            return {f"{self.prefix}{name}": each for name, each in tensors.items()}
        return {name.removeprefix(self.prefix): each for name, each in tensors.items()}

    @property
    def words(self) -> str:
        """What was done to the names, as the end of a sentence."""
        return f"names {'with' if self.added else 'without'} '{_short(self.prefix)}'"


def renaming_to(
    given: Mapping[str, Tensor], wanted: Mapping[str, Shape], whole: Collection[str] = ()
) -> Renaming | None:
    """The prefix that wrappers put before all names, if all tensors fit without it, or only with it. As `misfit`."""
    renaming = prefix_between(given, wanted)
    if renaming is None or len(named := renaming.of(given)) < len(given):
        return None
    return None if _differences(named, wanted, whole) else renaming


def misfit(given: Mapping[str, Tensor], wanted: Mapping[str, Shape], whole: Collection[str] = ()) -> str:
    """What is wrong with tensors that are to be a model's weights; empty if nothing is.

    Args:
        given: the tensors by name.
        wanted: the model's own.
        whole: names of the model's tensors of whole numbers or truth values; all others are floating point numbers.

    """
    if renaming := prefix_between(given, wanted):
        prefix, rest = renaming.prefix, _differences(renaming.of(given), wanted, whole)
        why = f": {KNOWN_PREFIXES[prefix]}" if prefix in KNOWN_PREFIXES and not renaming.added else ""
        lack = f"its names lack '{prefix}' before them"
        has = lack if renaming.added else f"its names begin with '{prefix}'{why}"
        return f"not the weights of this model: {has}" + (f"; beside that, {rest}" if rest else "")
    if rest := _differences(given, wanted, whole):
        return f"not the weights of this model: {rest}"
    return ""


def mistyped(given: Mapping[str, Tensor], wanted: Collection[str], whole: Collection[str] = ()) -> str:
    """Which tensors should be floating point numbers and are not, in words; empty if none. Arguments as of `misfit`.

    Quantised tensors would otherwise be taken for weights, without the scales that belong to them.
    """
    found = [
        f"{_short(name)} is of type {given[name].dtype}, not a floating point number"
        for name in wanted
        if name in given and name not in whole and not given[name].dtype.startswith(("F", "BF"))
    ]
    return listed(found, MOST_NAMED)


def _differences(given: Mapping[str, Tensor], wanted: Mapping[str, Shape], whole: Collection[str]) -> str:
    """The first differences of each kind, in the model's order."""
    both = [name for name in wanted if name in given]
    shapes = [
        f"{_short(name)} is {list(given[name].shape)}, not {_shown(wanted[name])}"
        for name in both
        if not _fits(given[name].shape, wanted[name])
    ]
    missing = [_short(name) for name in wanted if name not in given and not name.endswith(OPTIONAL)]
    unexpected = [_short(name) for name in given if name not in wanted]
    parts = (("missing", missing), ("unexpected", unexpected), ("", shapes))
    found = [f"{word} {listed(names, MOST_NAMED)}".strip() for word, names in parts if names]
    types = mistyped(given, wanted, whole)
    return "; ".join([*found, types] if types else found)


def prefix_between(given: Mapping[str, Tensor], wanted: Mapping[str, Shape]) -> Renaming | None:
    """The prefix by which most given names differ from the model's; None without one."""
    fitting = sum(name in given for name in wanted)
    if fitting == len(wanted):
        return None
    for names, others, added in ((given, wanted, False), (wanted, given, True)):
        known = set(others)
        lengths = sorted({len(name) for name in known}, reverse=True)  # Not at each dot: a name may be all dots.
        prefixes = Counter(
            name[:-length]
            for name in names
            for length in lengths
            if name[:-length].endswith(".") and name[-length:] in known
        )
        for prefix, count in prefixes.most_common(1):
            if count > fitting and count > len(wanted) // 2:
                return Renaming(prefix, added)
    return None


def command(code: str) -> str:
    """A command line that runs Python code, in double quotes if a shell obeys no character of the code there."""
    plain = f'"{code}"'
    return f"python -c {shlex.quote(code) if set(code) & _OF_SHELLS else plain}"


def _fits(shape: tuple[int, ...], wanted: Shape) -> bool:
    return len(shape) == len(wanted) and all(
        want is None or have == want for have, want in zip(shape, wanted, strict=True)
    )


def _shown(wanted: Shape) -> str:
    return f"[{', '.join('any' if length is None else str(length) for length in wanted)}]"


def _short(name: str) -> str:
    shown = name if name.isprintable() else repr(name)
    return shortened(shown, LONGEST_NAME)
