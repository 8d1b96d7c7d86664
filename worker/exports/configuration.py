"""The configuration of a model of transformers, by which that library builds it without this one."""

from __future__ import annotations

import json
from typing import Any

from torch import nn

from distill_queue.shared.errors import InvalidInput


def configuration_of(model: nn.Module) -> dict[str, Any]:
    """What the `config.json` of a model in a wrapper of ours says, without the folder that it came from.

    Raises:
        InvalidInput: it is no model of transformers.

    """
    inner = getattr(model, "model", None)
    if inner is None or not hasattr(inner, "config"):
        raise InvalidInput("only models of transformers have a configuration")
    facts: dict[str, Any] = json.loads(inner.config.to_json_string())
    facts.pop("_name_or_path", None)
    return facts | {"architectures": [type(inner).__name__]}
