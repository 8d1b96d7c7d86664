"""Reading: weights in a file or a folder, whatever wrote them, as names and shapes, and as safetensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from distill_queue.shared.catalog import did_you_mean
from distill_queue.shared.errors import InvalidInput, InvalidSpec
from distill_queue.shared.files.files import NoArchive, NoFile, opened
from distill_queue.shared.files.given_file import read_text
from distill_queue.shared.files.markup import Malformed, parse_json
from distill_queue.shared.files.weights.pickled import Damaged, Refused
from distill_queue.shared.files.weights.stored import PIECE_BYTES, SIZES, StoredTensor, safetensors_of
from distill_queue.shared.files.weights.torch_archive import is_legacy, mappings_of, saved_in
from distill_queue.shared.files.weights_file import MOST_HEADER_BYTES, Tensor, command, kind_of, tensors_in
from distill_queue.shared.line import listed, shortened

#: How often the numbers of a file may stand in what is made of it: weights that layers share are written for each.
MOST_GROWTH = 10
#: Bytes that may be made of any file.
FEWEST_BYTES = 1_000_000
#: Parts of a file, and files of a folder, that are named one by one.
MOST_NAMED = 6
#: What a folder of Hugging Face's calls its weights; the first one that is there is read.
OF_FOLDERS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
#: Endings of files with weights, for a message.
ENDINGS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
#: What to do where a file cannot be read.
_SAVE = "where it was made, save the weights alone: torch.save(model.state_dict(), 'weights.pth')"
#: Bytes that a list of files may have.
MOST_INDEX_BYTES = 20_000_000


@dataclass(frozen=True, slots=True)
class GivenWeights:
    """Weights as a user gave them: their names, shapes and types; the numbers are read when they are asked for."""

    #: The file, or the folder.
    path: Path
    #: As the user wrote it, for messages.
    called: str
    stored: Mapping[str, StoredTensor]
    #: What of the file was taken, where it was not all: as the end of a sentence.
    notes: tuple[str, ...] = ()
    #: The safetensors file whose bytes are taken as they are; None where they are written anew.
    as_it_is: Path | None = None

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return {name: each.tensor for name, each in self.stored.items()}

    def pieces(self) -> Iterator[bytes]:
        """The bytes of a safetensors file of these weights, one piece after the other.

        Raises:
            InvalidSpec: a file cannot be read any more, or has become shorter.

        """
        try:
            if self.as_it_is is not None:
                with opened(self.as_it_is) as file:
                    while piece := file.read(PIECE_BYTES):
                        yield piece
            else:
                yield from safetensors_of(self.stored)
        except OSError as error:
            raise InvalidSpec(f"{self.called}: {error.strerror or error}") from error
        except (NoFile, EOFError) as error:
            raise InvalidSpec(f"{self.called}: changed while it was read") from error

    def sha256(self) -> str:
        """The SHA-256 of these bytes, in hexadecimal.

        Raises:
            InvalidSpec: as for `pieces`.

        """
        digest = hashlib.sha256()
        for piece in self.pieces():
            digest.update(piece)
        return digest.hexdigest()


#: Whether tensors are those that are looked for.
Fits = Callable[[Mapping[str, Tensor]], bool]


def read_weights(path: Path, called: str = "", part: str | None = None, fits: Fits | None = None) -> GivenWeights:
    """The weights in a safetensors file, in what torch.save wrote, or in a folder as Hugging Face writes it.

    Args:
        path: the file or folder.
        called: its name in messages, as the user wrote it; the path where nothing is given.
        part: which mapping of tensors in the file is meant, as `ema` or `model.state_dict`.
        fits: chooses among several, where no part is given.

    Raises:
        InvalidSpec: there are none, they are damaged, or to read them would run code; the message says what to do.

    """
    name = called or str(path)
    try:
        if path.is_dir():
            return replace(_in_folder(path, name, part, fits), path=path, called=name)
        return _in_file(path, name, part, fits)
    except OSError as error:
        raise InvalidSpec(f"{name}: {error.strerror or error}") from error
    except NoFile as error:
        raise InvalidSpec(f"{name}: {error}") from None


def _in_file(path: Path, name: str, part: str | None, fits: Fits | None) -> GivenWeights:
    with opened(path) as file:
        start = file.read(9)
    if start[8:] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size - 8:
        if part is not None:
            raise InvalidSpec(f"{name}: safetensors has no parts: leave out 'part'")
        tensors_in(path, name)
        return GivenWeights(path, name, _in_safetensors(path), as_it_is=path)
    if is_legacy(path):
        raise InvalidSpec(f"{name}: torch before 1.6 wrote it; this writes it anew: {_rewriting(name)}")
    if start.startswith(b"\x80"):
        raise InvalidSpec(f"{name}: a pickle that torch.save did not write, and nothing is unpickled here; {_SAVE}")
    kind = kind_of(path)
    if "torch.save" in kind:
        return _saved_by_torch(path, name, part, fits)
    if kind == "JSON text":
        return _in_pieces(path, name, part)
    raise InvalidSpec(f"{name}: no weights: {kind or 'neither safetensors nor a file of torch.save'}")


def _in_folder(folder: Path, name: str, part: str | None, fits: Fits | None) -> GivenWeights:
    for file in OF_FOLDERS:
        if (folder / file).is_file():
            return _in_file(folder / file, f"{name.rstrip('/')}/{file}", part, fits)
    files = sorted(each.name for each in folder.iterdir() if each.suffix in ENDINGS)
    which = f": name one of its files ({listed(files, MOST_NAMED)})" if files else ""
    raise InvalidSpec(f"{name}: a folder without {OF_FOLDERS[0]}, {OF_FOLDERS[2]} or a list of their pieces{which}")


def _in_safetensors(path: Path) -> dict[str, StoredTensor]:
    """Where the tensors of a safetensors file lie, which `tensors_in` has looked at."""
    with opened(path) as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(min(length, MOST_HEADER_BYTES)))
    header.pop("__metadata__", None)
    return {
        each: StoredTensor(Tensor(tuple(of["shape"]), of["dtype"]), path, 8 + length + of["data_offsets"][0])
        for each, of in header.items()
    }


def _in_pieces(path: Path, name: str, part: str | None) -> GivenWeights:
    """The weights in several files, by the list of them that Hugging Face's libraries write."""
    try:
        listing = parse_json(read_text(path, MOST_INDEX_BYTES))
        places = listing["weight_map"]
        wanted = {str(each): str(file) for each, file in places.items()}
    except (InvalidInput, Malformed, LookupError, TypeError, AttributeError):
        raise InvalidSpec(f"{name}: JSON text, and no list of the pieces of a model") from None
    folder, stored = Path(name).parent, dict[str, StoredTensor]()
    for file in sorted(set(wanted.values())):
        piece = f"{folder / file}"
        if Path(file).name != file:
            raise InvalidSpec(f"{name}: names {shortened(file, 100)!r}, which does not lie beside it")
        if not (path.parent / file).is_file():
            raise InvalidSpec(f"{name}: names {file}, which is not there: copy all pieces")
        found = _in_file(path.parent / file, piece, part, None).stored
        if missing := [each for each, of in wanted.items() if of == file and each not in found]:
            raise InvalidSpec(f"{name}: {file} lacks {listed(missing, 3)}, which it should have")
        stored |= {each: found[each] for each, of in wanted.items() if of == file}
    if unknown := next((each.tensor.dtype for each in stored.values() if each.tensor.dtype not in SIZES), None):
        raise InvalidSpec(f"{name}: has numbers of type {unknown}, which are not put together here")
    return GivenWeights(path, name, stored)


def _saved_by_torch(path: Path, name: str, part: str | None, fits: Fits | None) -> GivenWeights:
    try:
        parts = dict(mappings_of(saved_in(path)))
    except Damaged as error:
        raise InvalidSpec(f"{name}: {error}: copy or download it again") from error
    except (Refused, NoArchive) as error:
        raise InvalidSpec(f"{name}: {error}; {_SAVE}") from error
    chosen = _chosen(parts, name, part, fits)
    stored = parts[chosen]
    size = path.stat().st_size
    made = sum(max(each.size_bytes, each.span * SIZES[each.tensor.dtype]) for each in stored.values())
    if made > max(MOST_GROWTH * size, FEWEST_BYTES):
        raise InvalidSpec(f"{name}: {size:,} bytes that claim to be {made:,} bytes of weights")
    return GivenWeights(path, name, stored, (f"its part '{chosen}'",) if chosen else ())


def _chosen(parts: Mapping[str, Mapping[str, StoredTensor]], name: str, part: str | None, fits: Fits | None) -> str:
    """The name of the mapping of tensors that is meant."""
    if not parts:
        raise InvalidSpec(f"{name}: has no mapping of names to tensors; {_SAVE}")
    if part is not None:
        if "" in parts:
            raise InvalidSpec(f"{name}: has no part '{part}': it is the weights themselves, so leave out 'part'")
        if part not in parts:
            raise InvalidSpec(f"{name}: has no part '{part}'{did_you_mean(part, parts)}")
        return part
    if len(parts) == 1:
        return next(iter(parts))
    if fits:
        fitting = [each for each, stored in parts.items() if fits({key: it.tensor for key, it in stored.items()})]
        if len(fitting) == 1:
            return fitting[0]
        parts = {each: parts[each] for each in fitting or parts}
    counts = [f"{each} ({len(stored):,} tensors)" for each, stored in parts.items()]
    say = f"say which, as {{file: {name}, part: {next(iter(parts))}}}"
    raise InvalidSpec(f"{name}: has several weights, {listed(counts, MOST_NAMED)}: {say}")


def _rewriting(name: str) -> str:
    """The command that writes a file of torch before 1.6 as torch does now."""
    new = f"{Path(name).with_suffix('')}-new{Path(name).suffix or '.pth'}"
    return command(f"import torch; torch.save(torch.load({name!r}, map_location='cpu', weights_only=True), {new!r})")
