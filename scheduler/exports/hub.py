"""The hub: a folder as Hugging Face's hub takes it: `config.json`, and a card that begins with metadata."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from distill_queue.scheduler.exports.facts import FolderFacts
from distill_queue.scheduler.exports.programs import kind_of
from distill_queue.shared.spec.models.timm import TimmSpec
from distill_queue.shared.spec.part import as_arguments
from distill_queue.shared.spec.sources.hugging_face import ON_HUB, HuggingFaceHubSpec

#: The hub's task for a kind of samples.
TASKS = {"images": "image-classification", "texts": "text-classification", "table": "tabular-classification"}
#: The hub's name of the library that loads such weights, by the family of models; PyTorch's for others.
LIBRARIES = {"timm": "timm", "hugging_face": "transformers"}
#: Built-in data sets by the hub's names.
DATASETS = {
    "mnist": "ylecun/mnist",
    "mnist_5k": "ylecun/mnist",
    "fashion_mnist": "zalando-datasets/fashion_mnist",
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
}
#: Identifiers that the hub knows (huggingface.co/docs/hub/repositories-licenses); others are "other" with a name.
LICENCES = (
    "afl-3.0", "agpl-3.0", "apache-2.0", "bsd", "bsd-2-clause", "bsd-3-clause", "bsl-1.0", "cc", "cc-by-2.0",
    "cc-by-3.0",
    "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0",
    "cc0-1.0", "epl-2.0", "eupl-1.1", "gpl", "gpl-2.0", "gpl-3.0", "isc", "lgpl", "lgpl-2.1", "lgpl-3.0", "mit",
    "mpl-2.0",
    "odbl", "odc-by", "openrail", "pddl", "postgresql", "unlicense", "wtfpl", "zlib",
)  # fmt: skip
#: Characters of a licence's name where the hub knows no identifier.
LONGEST_NAME = 60


def metadata(facts: FolderFacts) -> str:
    """The metadata that a card begins with, in YAML between lines of three dashes."""
    return f"---\n{yaml.safe_dump(_metadata(facts), sort_keys=False, allow_unicode=True)}---\n\n"


def configuration(facts: FolderFacts) -> str:
    """The text of `config.json`, as the library that loads the weights reads it."""
    student, data = facts.student, facts.student.data
    names = dict(enumerate(data.class_names))
    if facts.configuration is not None:
        found: dict[str, Any] = dict(facts.configuration)
    elif isinstance(student.recipe.model, TimmSpec):
        found = _of_timm(facts, student.recipe.model)
    else:
        found = {
            "architecture": student.recipe.model.words,
            "model": student.recipe.model.model_dump(mode="json"),
            "inputs": {
                each.name: {"dtype": each.dtype, "shape": each.shape, "mean": each.mean, "std": each.std}
                for each in facts.inputs
            },
            "num_classes": data.classes,
            "id2label": names,
            "label2id": {name: number for number, name in names.items()},
        }
    return json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _metadata(facts: FolderFacts) -> dict[str, Any]:
    student = facts.student
    task = TASKS.get(kind_of(student, facts.inputs))
    spec = student.dataset_spec
    on_hub = spec.name.removeprefix(ON_HUB) if isinstance(spec, HuggingFaceHubSpec) else DATASETS.get(spec.name)
    score = {
        "type": "accuracy",
        "value": round(facts.records[0].accuracy, 6),
        "name": f"accuracy of {facts.records[0].file}",
    }
    result = {
        "task": {"type": task or "other"},
        "dataset": {"type": on_hub or spec.name, "name": facts.dataset_name, "split": "test"},
        "metrics": [score],
    }
    return {
        **_licence(facts.licence),
        "library_name": LIBRARIES.get(student.recipe.model.family, "pytorch"),
        **({"pipeline_tag": task} if task else {}),
        "tags": ["distill-queue", "knowledge-distillation", "onnx"],
        **({"datasets": [on_hub]} if on_hub else {}),
        "metrics": ["accuracy"],
        "model-index": [{"name": student.runs.name, "results": [result]}],
    }


def _licence(text: str) -> dict[str, str]:
    if not text:
        return {}
    if text.lower() in LICENCES:
        return {"license": text.lower()}
    name = re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")[:LONGEST_NAME]
    return {"license": "other", "license_name": name or "other"}


def _of_timm(facts: FolderFacts, model: TimmSpec) -> dict[str, Any]:
    """As timm's own models on the hub have it; its mean and deviation are of pixels from 0 to 1."""
    only, data = facts.inputs[0], facts.student.data
    scale = 255.0 if only.dtype == "uint8" else 1.0
    return {
        "architecture": model.name.removeprefix("timm/"),
        "num_classes": data.classes,
        "model_args": {"in_chans": only.shape[0], **as_arguments(model.options)},
        "label_names": list(data.class_names),
        "pretrained_cfg": {
            "input_size": list(only.shape),
            "mean": [each / scale for each in only.mean],
            "std": [each / scale for each in only.std],
            "num_classes": data.classes,
            "fixed_input_size": False,
            "label_names": list(data.class_names),
        },
    }
