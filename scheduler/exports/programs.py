"""Programs: `predict.py`, which runs an exported file, and `load.py`, which builds the student in plain PyTorch."""

from __future__ import annotations

from math import prod
from typing import Any

from distill_queue.scheduler.client.trained import TrainedStudent
from distill_queue.scheduler.exports.samples import FileInput
from distill_queue.scheduler.exports.template import filled
from distill_queue.shared.catalog import DATASETS
from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.spec.model import ModelSpec
from distill_queue.shared.spec.models.cnn import CnnSpec
from distill_queue.shared.spec.models.custom import CustomModelSpec
from distill_queue.shared.spec.models.hugging_face import HuggingFaceModelSpec
from distill_queue.shared.spec.models.mlp import MlpSpec
from distill_queue.shared.spec.models.resnet import ResnetSpec
from distill_queue.shared.spec.models.timm import TimmSpec
from distill_queue.shared.spec.models.torchvision import TorchvisionSpec
from distill_queue.shared.spec.part import as_arguments
from distill_queue.shared.spec.sources.in_tables import SourceInTables
from distill_queue.shared.spec.sources.table import TableSpec
from distill_queue.shared.spec.sources.text import TOKENIZER

#: The file of a data set that says how inputs are made of a table's row.
COLUMNS = "columns.json"
#: What pyarrow takes for a missing value in a CSV file (`pyarrow.csv.ConvertOptions().null_values`).
MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "N/A", "NA", "NULL",
    "NaN",
    "n/a", "nan", "null",
)  # fmt: skip
#: What transformers calls the inputs of a classifier of texts.
TOKEN_INPUTS = {"ids": "input_ids", "mask": "attention_mask"}
#: How an image gets the size of the samples, by the spec's `resize`: the call, and words.
FRAMINGS = {
    "crop": ("ImageOps.fit(image, {size}, Image.Resampling.BILINEAR)", ", its middle"),
    "pad": ("ImageOps.pad(image, {size}, Image.Resampling.BILINEAR)", ", with black added"),
    "squash": ("image.resize({size}, Image.Resampling.BILINEAR)", ", its sides scaled one by one"),
}


def kind_of(student: TrainedStudent, inputs: tuple[FileInput, ...]) -> str:
    """The kind of a student's samples, as the templates of `predict` are called."""
    files = student.dataset.manifest.files
    if COLUMNS in files:
        return "table"
    if TOKENIZER in files:
        return "texts"
    first = inputs[0]
    images = len(inputs) == 1 and first.normalised and len(first.shape) == 3 and first.shape[0] in (1, 3)
    return "images" if images else "arrays"


def predict_program(student: TrainedStudent, inputs: tuple[FileInput, ...], file: str) -> str:
    """The text of `predict.py` for an exported file."""
    kind, first = kind_of(student, inputs), inputs[0]
    facts: dict[str, Any] = {"file": file, "shape": first.shape, "dtype": first.dtype}
    if kind == "images":
        facts |= _of_images(student, first)
    elif kind == "table":
        facts |= _of_table(student)
    elif kind == "arrays":
        several = len(inputs) > 1
        each = "; ".join(f"{each.name}: {each.words}" for each in inputs)
        facts |= {
            "inputs": {each.name: (each.dtype, each.shape) for each in inputs},
            "several": several,
            "holds": f"The file holds {each if several else first.words}.",
        }
    return filled(f"predict/{kind}.py", **facts)


def load_program(
    name: str, model: ModelSpec, data: DatasetRecord, inputs: tuple[FileInput, ...], factory: str = ""
) -> str:
    """The text of `load.py`.

    Args:
        name: the student's.
        model: its network.
        data: the data set that it was trained on.
        inputs: what it takes.
        factory: the class of transformers that builds such a network.

    """
    several = len(inputs) > 1 or inputs[0].name != "input"
    example = ", ".join(f"{each.name}={each.name}" for each in inputs) if several else "samples"
    return filled(
        f"load/{model.family}.py",
        student=name,
        inputs=inputs,
        several=several,
        example=example,
        inputs_in_words="; ".join(f"{each.name} {each.words}" for each in inputs) if several else inputs[0].words,
        classes=data.classes,
        shape=data.shape,
        libraries=("torch", "safetensors", "numpy", *LIBRARIES.get(model.family, ())),
        model=model,
        **_of_model(model, inputs, data.input_shape, factory),
    )


#: The value of a white pixel in Pillow's images.
WHITE = 255.0
#: What a family's models need beside PyTorch.
LIBRARIES = {"torchvision": ("torchvision",), "timm": ("timm",), "hugging_face": ("transformers",)}


def _of_model(model: ModelSpec, inputs: tuple[FileInput, ...], input_shape: object, factory: str) -> dict[str, Any]:
    """What a family's template says of its network."""
    shape = inputs[0].shape
    match model:
        case CnnSpec():
            return {"widths": [shape[0], *(model.width * 2**block for block in range(model.depth))]}
        case ResnetSpec():
            return {"blocks": (int(model.name.removeprefix("resnet")) - 2) // 6}
        case TorchvisionSpec():
            return {"name": model.name.removeprefix("torchvision/")}
        case TimmSpec():
            return {"name": model.name.removeprefix("timm/"), "options": as_arguments(model.options)}
        case CustomModelSpec():
            module, _, called = model.name.partition(":")
            return {
                "module": module, "factory": called, "input_shape": input_shape, "options": as_arguments(model.options),
            }  # fmt: skip
        case HuggingFaceModelSpec():
            images = "ImageClassification" in factory
            one = (
                "pixel_values=samples.expand(-1, self.model.config.num_channels, -1, -1)"
                if images
                else "input_ids=samples"
            )
            named = [
                f'"{TOKEN_INPUTS.get(each.name, each.name)}": inputs["{each.name}"]'
                + (".long()" if each.dtype == "bool" else "")
                for each in inputs
            ]
            return {"factory": factory, "answer_of_one": one, "renamed": ", ".join(named)}
        case MlpSpec():
            return {"widths": [prod(shape), *model.hidden]}
    raise AssertionError(model.family)  # A new family has a case here.


def _of_images(student: TrainedStudent, only: FileInput) -> dict[str, Any]:
    channels, height, width = only.shape
    spec = student.dataset_spec
    resize = getattr(getattr(spec, "image", None) or spec, "resize", "squash")
    framing, words = FRAMINGS[resize]
    white = DATASETS[spec.name].white if spec.name in DATASETS else student.data.white
    scaled = "pixels" if white == WHITE else f"(pixels * {white / WHITE!r})"
    scaled += ".round()" if white != WHITE and only.dtype == "uint8" else ""
    scaled += f".astype(np.{only.dtype})"
    return {
        "mode": "L" if channels == 1 else "RGB",
        "framing": framing.format(size=(width, height)),
        "framing_in_words": words,
        "scaled": scaled,
    }


def _of_table(student: TrainedStudent) -> dict[str, Any]:
    spec = student.dataset_spec
    own = spec if isinstance(spec, TableSpec) else None
    tables = spec if isinstance(spec, SourceInTables) else None
    tabs = tables is not None and tables.path.lower().endswith(".tsv")
    comma = own is not None and own.decimal == ","
    return {
        "marks": (*MISSING, *(own.missing_marks if own else ())),
        "separator": (tables.separator if tables else None) or ("\t" if tabs else ","),
        "encoding": tables.encoding if tables else "utf-8",
        "number": 'text.replace(",", ".")' if comma else "text",
    }
