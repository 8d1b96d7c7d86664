"""Classifiers of Hugging Face's library transformers: of texts as tokens, and of images."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from distill_queue.shared.errors import DistillError, InvalidInput, InvalidSpec, StageFailed, Unavailable
from distill_queue.shared.line import first_line, listed, shortened
from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.spec.models.hugging_face import CONFIG, HuggingFaceModelSpec
from distill_queue.shared.spec.part import as_arguments
from distill_queue.worker.machine import extras, hub, memory
from distill_queue.worker.machine.outages import can_pass
from distill_queue.worker.machine.runtime import Runtime

#: Names that a message lists, and characters of what the library says.
MOST_NAMED, LONGEST_REASON = 3, 300
#: A data set's inputs by the names that models here give them, and by transformers' own.
TOKEN_INPUTS = {"ids": "input_ids", "mask": "attention_mask"}
TOKEN_INPUTS |= {name: name for name in TOKEN_INPUTS.values()}


def build(spec: HuggingFaceModelSpec, data: DatasetRecord, runtime: Runtime) -> nn.Module:
    """The model that a spec describes, for a data set, its weights drawn anew.

    Raises:
        InvalidSpec: transformers is not installed, there is no such model, or it does not fit the data.
        StageFailed: its folder is not what was submitted.
        Unavailable: the hub does not give it for now.

    """
    extras.require("transformers", "huggingface", f"model {spec.name}: models of Hugging Face's need")
    place = _place_of(spec, runtime, weights=False)
    with _problems(spec):
        config = _config_of(spec, data, place)
        made = _factory(spec, data, config).from_config(config, attn_implementation="eager", dtype=torch.float32)
    return (TextClassifier if _of_tokens(data) else ImageClassifier)(made, config)


def start_from(model: nn.Module, spec: HuggingFaceModelSpec, data: DatasetRecord, runtime: Runtime) -> None:
    """Put the weights of a model's folder into a model: all but those of a head for other classes.

    Raises:
        InvalidSpec, StageFailed, Unavailable: as for `build`; or the weights are not there, or of another model.

    """
    place = _place_of(spec, runtime, weights=True)
    with _problems(spec):
        config = _config_of(spec, data, place)
        loaded, found = _factory(spec, data, config).from_pretrained(
            place, config=config, dtype=torch.float32, attn_implementation="eager", use_safetensors=True,
            local_files_only=True, ignore_mismatched_sizes=True, output_loading_info=True,
        )  # fmt: skip
    own = {name.removeprefix("model."): tensor for name, tensor in model.state_dict().items()}
    given: dict[str, torch.Tensor] = loaded.state_dict()
    body, misshapen = f"{loaded.base_model_prefix}.", [each[0] for each in found["mismatched_keys"]]
    # A pooler belongs to the head: where it was not trained, there is none.
    lacking = [
        name
        for name in (*found["missing_keys"], *misshapen)
        if name.startswith(body) and ".pooler." not in name and name in own
    ]
    if lacking:
        raise InvalidSpec(f"{spec.name}: its weights lack {listed(sorted(lacking), MOST_NAMED)}, or have other shapes")
    drawn = {*found["missing_keys"], *misshapen}
    if _class_names(place) != data.class_names:
        drawn |= {name for name in own if not name.startswith(body)}
    with torch.no_grad():
        for name, tensor in own.items():
            if name not in drawn:
                tensor.copy_(given[name])


class TextClassifier(nn.Module):
    """A classifier of texts that takes tokens as data sets here name them."""

    #: What its parameters' names begin with, before transformers' own, and whose these are.
    names_prefix, library = "model.", "transformers"

    def __init__(self, model: nn.Module, _config: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor | None = None, **inputs: torch.Tensor) -> torch.Tensor:
        """Logits."""
        named = {TOKEN_INPUTS[name]: each for name, each in inputs.items()}
        if tokens is not None:
            named["input_ids"] = tokens
        if "attention_mask" in named:
            named["attention_mask"] = named["attention_mask"].long()
        return self.model(**named).logits


class ImageClassifier(nn.Module):
    """A classifier of images that also takes those of one channel."""

    #: What its parameters' names begin with, before transformers' own, and whose these are.
    names_prefix, library = "model.", "transformers"

    def __init__(self, model: nn.Module, config: Any) -> None:
        super().__init__()
        self.model, self._channels = model, getattr(config, "num_channels", 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.model(pixel_values=inputs.expand(-1, self._channels, -1, -1)).logits


def _place_of(spec: HuggingFaceModelSpec, runtime: Runtime, *, weights: bool) -> Path:
    """The folder with a model's configuration, and with its weights if they are wanted."""
    if spec.revision:
        patterns = [CONFIG, *(["*.safetensors", "*.safetensors.index.json"] if weights else [])]
        return hub.folder(spec.place, spec.revision, patterns)
    try:
        found = spec.find(runtime.data)
        content = found and spec.content and spec.content_at(found, runtime.digests)
    except InvalidInput as error:
        raise (Unavailable if can_pass(error) else InvalidSpec)(f"{spec.name}: {error}") from error
    if found is None or not found.is_dir():
        where = f"in {listed([str(each) for each in runtime.data], MOST_NAMED)}" if runtime.data else "named"
        raise InvalidSpec(
            f"{spec.name}: no such folder is {where} (DISTILL_DATA) on this worker; a model of the hub has a revision"
        )
    if content != spec.content:
        raise StageFailed(
            f"{spec.name} is not what was submitted: its folder has changed since, or is another one on this worker: "
            "submit the pipeline again"
        )
    return found


def _config_of(spec: HuggingFaceModelSpec, data: DatasetRecord, place: Path) -> Any:
    """The model's configuration, with the spec's options and the data's classes, if it fits the data."""
    from transformers import AutoConfig

    if not (place / CONFIG).is_file():
        raise InvalidSpec(f"{spec.name}: has no {CONFIG}: save_pretrained(…) of transformers writes such a folder")
    config = AutoConfig.from_pretrained(place, trust_remote_code=False, local_files_only=True)
    for name, value in as_arguments(spec.options).items():
        if not hasattr(config, name):
            raise InvalidSpec(f"{spec.name}: options: its {CONFIG} knows no '{name}'")
        setattr(config, name, value)
    config.id2label = dict(enumerate(data.class_names))
    config.label2id = {name: number for number, name in config.id2label.items()}
    _fit_tokens(spec, data, config) if _of_tokens(data) else _fit_images(spec, data, config)
    return config


def _of_tokens(data: DatasetRecord) -> bool:
    return data.tokens or bool(data.inputs)


def _fit_tokens(spec: HuggingFaceModelSpec, data: DatasetRecord, config: Any) -> None:
    """Refuse tokens that a model does not know; have one that is new fill up as the data are."""
    if unknown := sorted(data.inputs.keys() - TOKEN_INPUTS.keys()):
        raise InvalidSpec(f"{spec.name} takes ids and mask, and samples have the input '{unknown[0]}'")
    ids = next((each for name, each in data.inputs.items() if TOKEN_INPUTS[name] == "input_ids"), None)
    if data.inputs and ids is None:
        raise InvalidSpec(f"{spec.name} takes ids and mask, and samples have no ids")
    known, length = getattr(config, "vocab_size", None), ids.shape[0] if ids else data.shape[0]
    longest = getattr(config, "max_position_embeddings", None)
    if longest and length > longest:
        raise InvalidSpec(f"{spec.name} takes up to {longest:,} tokens, and samples have {length:,}: dataset.length")
    if ids is None:
        return
    if known and ids.largest is not None and ids.largest >= known:
        raise InvalidSpec(
            f"{spec.name} knows the tokens 0 to {known - 1:,}, and samples have number {ids.largest:,}: the data need "
            "its own tokenizer, as dataset.tokenizer: FOLDER"
        )
    fills = getattr(config, "pad_token_id", None)
    if spec.pretrained and fills is not None and ids.padding not in (None, fills):
        raise InvalidSpec(
            f"{spec.name} fills texts up with token {fills}, and the data's tokenizer with {ids.padding}: the data "
            "need its own tokenizer, as dataset.tokenizer: FOLDER"
        )
    if ids.padding is not None:
        config.pad_token_id = ids.padding


def _fit_images(spec: HuggingFaceModelSpec, data: DatasetRecord, config: Any) -> None:
    """Refuse images that a pretrained model does not take; have one that is new take those of the data."""
    if len(data.shape) != 3:
        raise InvalidSpec(f"{spec.name}: takes images or tokens, samples are of {data.input_shape}")
    channels, *size = data.shape
    wanted = getattr(config, "image_size", None)
    wanted = [wanted, wanted] if isinstance(wanted, int) else list(wanted or size)
    if not spec.pretrained:
        config.num_channels = channels
        if hasattr(config, "image_size"):
            config.image_size = size[0] if size[0] == size[1] else size
    elif wanted != size or channels not in (1, getattr(config, "num_channels", channels)):
        raise InvalidSpec(
            f"{spec.name} takes images of {wanted[0]} x {wanted[1]} pixels and {getattr(config, 'num_channels', 3)} "
            f"channels, and samples are of {data.shape}: dataset.size, or pretrained: false"
        )


def _factory(spec: HuggingFaceModelSpec, data: DatasetRecord, config: Any) -> Any:
    """Transformers' class that makes classifiers of such data."""
    from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification

    factory, noun = AutoModelForImageClassification, "images"
    if _of_tokens(data):
        factory, noun = AutoModelForSequenceClassification, "texts"
    if type(config) not in factory._model_mapping:
        raise InvalidSpec(f"{spec.name}: transformers has no classifier of {noun} of the kind '{config.model_type}'")
    return factory


def _class_names(place: Path) -> tuple[str, ...]:
    """The names of the classes that a model in a folder tells apart."""
    from transformers import AutoConfig

    names: Mapping[int, str] = AutoConfig.from_pretrained(place, local_files_only=True).id2label
    return tuple(names[number] for number in sorted(names))


@contextmanager
def _problems(spec: HuggingFaceModelSpec) -> Iterator[None]:
    """Turn the library's errors into messages for people, and keep its own off the log.

    Raises:
        InvalidSpec: the folder's files are no such model.

    """
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:  # Of configurations it raises any kind.
        if isinstance(error, DistillError) or memory.is_short(error):
            raise
        text = f"{spec.name}: {shortened(first_line(error), LONGEST_REASON)}"
        raise (Unavailable if can_pass(error) else InvalidSpec)(text) from error
    finally:
        logging.set_verbosity(level)
