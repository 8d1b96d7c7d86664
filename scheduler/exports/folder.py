"""The folder that a user takes away: a trained student's files, its programs and its card, written whole."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from distill_queue.scheduler.client.exported import exported
from distill_queue.scheduler.client.trained import TrainedStudent
from distill_queue.scheduler.exports import hub
from distill_queue.scheduler.exports.card import card
from distill_queue.scheduler.exports.facts import FolderFacts
from distill_queue.scheduler.exports.programs import COLUMNS, kind_of, load_program, predict_program
from distill_queue.scheduler.exports.samples import inputs_of
from distill_queue.scheduler.exports.weights import weights_of
from distill_queue.scheduler.offline import ask
from distill_queue.scheduler.terminal.status_line import StatusLine
from distill_queue.shared.errors import InvalidSettings
from distill_queue.shared.files.folders import draft_folder
from distill_queue.shared.files.given_file import require_path, shown
from distill_queue.shared.plan.stage import ArtifactRef
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.export import FORMATS, ExportSpec
from distill_queue.shared.spec.models.hugging_face import CONFIG, HuggingFaceModelSpec
from distill_queue.shared.spec.sources.text import TOKENIZER
from distill_queue.shared.text import plain_line

#: The names of the card: as people read it, and as the hub shows it.
CARD, HUB_CARD = "card.md", "README.md"
LABELS, WEIGHTS, PREDICT, LOAD = "labels.txt", "model.safetensors", "predict.py", "load.py"
#: The last line of a card, by which a folder is known again.
MARK = b"<!-- written by distill export -->\n"
#: All that a folder may have from here, a cache of compiled programs included.
OWN = {CARD, HUB_CARD, LABELS, WEIGHTS, PREDICT, LOAD, CONFIG, COLUMNS, TOKENIZER, "__pycache__"} | {
    each.file for each in FORMATS.values()
}
#: What `predict.py` is given, by the kind of samples.
GIVEN = {"images": "IMAGE.png", "table": "ROWS.csv", "texts": '"a text"', "arrays": "SAMPLES.npy"}


def contents(
    student: TrainedStudent, asked: ExportSpec, settings: Settings, folder: str, *, for_hub: bool
) -> dict[str, bytes]:
    """The files of a student's folder by their names; what is not exported yet is exported now.

    Args:
        student: a trained one.
        asked: formats and licence.
        settings: of the store.
        folder: what the card calls the folder.
        for_hub: whether it is to be one that Hugging Face's hub takes.

    Raises:
        DistillError: a file cannot be made.

    """
    store = student.pipeline.store
    with StatusLine(f"exporting {student.role}") as line:
        exports = exported(student, asked, settings, line.show)
        configuration = _configuration(student, settings)
    facts = FolderFacts(student, inputs_of(student), exports, asked.licence, configuration)
    files = {
        record.file: store.verified(each, record.file).read_bytes()
        for record, each in zip(facts.records, exports, strict=True)
    }
    weights = store.verified(student.model, student.weights).read_bytes()
    files[WEIGHTS] = weights_of(weights, student.recipe.model.family)
    for name in (COLUMNS, TOKENIZER):
        if name in student.dataset.manifest.files:
            files[name] = store.local_file(student.dataset, name).read_bytes()
    texts = {
        LABELS: "".join(f"{plain_line(name)}\n" for name in student.data.class_names),
        LOAD: load_program(student.runs.name, student.recipe.model, student.data, facts.inputs, facts.factory),
    }
    if facts.onnx_file:
        texts[PREDICT] = predict_program(student, facts.inputs, facts.onnx_file)
    text = card(facts, use_of(folder, kind_of(student, facts.inputs), texts))
    texts |= {HUB_CARD: hub.metadata(facts) + text} if for_hub else {CARD: text}
    if for_hub or configuration:
        texts[CONFIG] = hub.configuration(facts)
    return files | {name: text.encode() for name, text in texts.items()}


def use_of(folder: str, kind: str, names: Container[str]) -> str:
    """The command that tries a folder's files, of which these are the names."""
    return f"python {folder}/{PREDICT} {GIVEN[kind]}" if PREDICT in names else f"python {folder}/{LOAD} SAMPLES.npy"


def require_place(folder: Path, *, force: bool) -> None:
    """Refuse a folder with files that are not from here, before any work.

    Raises:
        InvalidSettings: it has some, is a file, or cannot be read or made.

    """
    require_path(folder)
    with _problems(folder):
        if folder.is_dir():
            names = {each.name for each in folder.iterdir()}
            if names and not force and not (names <= OWN and _is_own(folder)):
                raise InvalidSettings(
                    f"{shown(folder)}: has files that 'distill export' did not write: name another folder with "
                    "--output, or add --force, which leaves other files and replaces those of the same names"
                )
        elif folder.exists() or folder.is_symlink():
            raise InvalidSettings(f"{shown(folder)}: is there already, and is no folder")
        elif not folder.parent.is_dir():
            raise InvalidSettings(f"{shown(folder.parent)}: no such folder")


def write(files: Mapping[str, bytes], folder: Path) -> None:
    """Write all files into a folder, or none; what an earlier export left there and this one does not have goes.

    Raises:
        InvalidSettings: the folder cannot be written.

    """
    with _problems(folder), draft_folder(folder.absolute().parent, f".{folder.absolute().name}-") as draft:
        for name, content in files.items():
            (draft / name).write_bytes(content)
        if not folder.is_dir():
            draft.rename(folder)
            return
        stale = [each for each in folder.iterdir() if each.name in OWN and each.is_file()] if _is_own(folder) else []
        for name in files:
            (draft / name).replace(folder / name)
        for each in stale:
            if each.name not in files:
                each.unlink()


def _is_own(folder: Path) -> bool:
    """Whether the folder has a card from here."""
    cards = [folder / name for name in (CARD, HUB_CARD)]
    return any(each.is_file() and each.read_bytes().endswith(MARK) for each in cards)


def _configuration(student: TrainedStudent, settings: Settings) -> Mapping[str, object] | None:
    """What `config.json` says of a model of transformers, which only the worker's code knows."""
    if not isinstance(student.recipe.model, HuggingFaceModelSpec):
        return None
    refs = [ArtifactRef(kind=each.manifest.kind, key=each.manifest.key) for each in (student.model, student.dataset)]
    model, dataset = (ref.model_dump() for ref in refs)
    seed = student.seed if student.is_chosen else None
    found: dict[str, object] = ask({"configuration": model, "seed": seed, "dataset": dataset}, settings)
    return found


@contextmanager
def _problems(folder: Path) -> Iterator[None]:
    """Raise errors of the file system about a folder that the user named as `InvalidSettings`."""
    try:
        yield
    except OSError as error:
        raise InvalidSettings(f"{shown(folder)}: {error.strerror or error}") from error
