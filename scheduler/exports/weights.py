"""Weights: a student's safetensors file, its tensors named as the library of its model names them."""

from __future__ import annotations

import json

#: What wrappers of ours put before the names of a library's tensors, by the family of models.
PREFIXES = {"torchvision": "model.", "hugging_face": "model."}
#: What libraries look for in a file of PyTorch's tensors.
METADATA = {"format": "pt"}


def weights_of(content: bytes, family: str) -> bytes:
    """A safetensors file with the same tensors under the library's names.

    The format: the length of a JSON header as 8 bytes, the header, and the tensors' bytes
    (github.com/huggingface/safetensors, README).
    """
    length = int.from_bytes(content[:8], "little")
    tensors = json.loads(content[8 : 8 + length])
    tensors.pop("__metadata__", None)
    prefix = PREFIXES.get(family, "")
    named = {name.removeprefix(prefix): each for name, each in tensors.items()}
    header = json.dumps({"__metadata__": METADATA, **named}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]
