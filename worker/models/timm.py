"""Classifiers of the library timm."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.line import first_line, listed
from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.spec.models.timm import TimmSpec
from distill_queue.shared.spec.part import as_arguments
from distill_queue.worker.machine import extras, hub, memory
from distill_queue.worker.machine.runtime import Runtime

#: Near names, and tags of weights, that a message lists.
MOST_NEAR, MOST_TAGS = 3, 20


def build(spec: TimmSpec, data: DatasetRecord, _runtime: Runtime) -> nn.Module:
    """The model that a spec describes, for a data set.

    Raises:
        InvalidSpec: timm is not installed, has no such model, or the model does not take such images.

    """
    return _made(spec, data)


def start_from(model: nn.Module, spec: TimmSpec, data: DatasetRecord, _runtime: Runtime) -> None:
    """Put pretrained weights into a model, all that fit: not those of a head for other classes.

    Raises:
        InvalidSpec: there are no such weights.
        Unavailable: the hub does not give them for now.

    """
    from timm.models import get_pretrained_cfg, list_pretrained

    name = spec.name.removeprefix("timm/")
    known = [each.partition(".")[2] for each in list_pretrained(f"{name}.*")]
    if spec.weights not in known or spec.revision is None:
        tags = listed(sorted(known), MOST_TAGS) or "none"
        raise InvalidSpec(f"{spec.name} has no weights '{spec.weights}': there are {tags}")
    facts = get_pretrained_cfg(f"{name}.{spec.weights}")
    if not facts.hf_hub_id or facts.custom_load:
        raise InvalidSpec(f"{spec.name}: the weights '{spec.weights}' are not on Hugging Face's hub as safetensors")
    file = hub.file(facts.hf_hub_id, spec.revision, "model.safetensors")
    # Made from the same seed, so that a head for other classes is the one that the model has.
    given = _made(spec, data, tag=f".{spec.weights}", pretrained=True, pretrained_cfg_overlay={"file": str(file)})
    with torch.no_grad():
        model.load_state_dict(given.state_dict())


def _made(spec: TimmSpec, data: DatasetRecord, tag: str = "", **more: Any) -> nn.Module:
    """The model as timm makes it."""
    extras.require("timm", "timm", f"model {spec.name}: models of timm's need")
    import timm
    from timm.models import get_pretrained_cfg

    name, options = spec.name.removeprefix("timm/"), as_arguments(spec.options)
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), MOST_NEAR)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ": timm.list_models() names them"
        raise InvalidSpec(f"timm {timm.__version__} has no model '{name}'{hint}")
    if data.inputs or len(data.shape) != 3:
        raise InvalidSpec(f"{spec.name} takes images [channels, height, width], samples are of {data.input_shape}")
    facts = get_pretrained_cfg(name)
    if facts is not None and facts.fixed_input_size:
        options.setdefault("img_size", data.shape[1:])
    with _plain_attention():
        try:
            model: nn.Module = timm.create_model(
                name + tag, num_classes=data.classes, in_chans=data.shape[0], **options, **more
            )
        except Exception as error:  # What timm's models raise of options and sizes is of any kind.
            if isinstance(error, OSError) or memory.is_short(error):
                raise
            raise InvalidSpec(f"{spec.name} cannot be made for samples of {data.shape}: {first_line(error)}") from error
    return model


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Have models compute attention by plain products: on a card, torch's own is not the same each time."""
    from timm.layers import config

    was_fused = config.use_fused_attn()
    config.set_fused_attn(False)
    try:
        yield
    finally:
        config.set_fused_attn(was_fused)
