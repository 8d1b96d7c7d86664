"""Entries: how bytes at the broker are parsed, which anybody may have written."""

from __future__ import annotations

import json
from base64 import b64encode

import pytest

from distill_queue.shared.broker.entry import UNREADABLE, read_entry


@pytest.mark.parametrize("encoding", ["bz2", "zlib", "unicode_escape", "../x", 7, {}])
def test_no_codec_is_looked_up_that_an_entry_names(encoding: object) -> None:
    entry = {
        "body": b64encode(b"{}").decode(),
        "content-type": "application/data",
        "content-encoding": encoding,
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": "t",
            "delivery_info": {"exchange": "", "routing_key": "any"},
        },
    }

    read = read_entry(json.dumps(entry).encode(), "celery.pidbox")
    genuine = read_entry(json.dumps(entry | {"content-encoding": "utf-8"}).encode(), "celery.pidbox")

    assert read["content-type"] == UNREADABLE
    assert genuine["content-type"] == "application/data"
