"""The script of a page, and what it gets."""

from __future__ import annotations

import base64
import hashlib
import json

from distill_queue.shared.report.page import Page, filled
from distill_queue.shared.report.section import Section
from distill_queue.shared.report.trial import Trial
from tests.unit.shared.report.conftest import HOSTILE

FACTS = {"shape": [1, 8, 4], "classes": [*HOSTILE, "</script>"], "samples": [],
         "models": [{"name": "teacher", "role": "teacher"}, {"name": "s", "role": "student"}]}  # fmt: skip


def page_with(trial: Trial | None) -> str:
    return filled(Page("p", (), ("a",), 1, (Section("Try it", "text", trial=trial),)))


def test_no_text_of_the_facts_ends_their_script() -> None:
    page = page_with(Trial.of(FACTS))

    text = page.split('<script type="application/json" id="try-it-facts">')[1].split("</script>")[0]
    assert json.loads(text) == FACTS
    assert not set("<>&") & set(text)


def test_the_policy_allows_the_pages_script_and_no_other() -> None:
    page = page_with(Trial.of(FACTS))

    (script,) = (part.split("</script>")[0] for part in page.split("<script>")[1:])
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = page.split('http-equiv="Content-Security-Policy" content="')[1].split('"')[0].replace("&#39;", "'")
    assert policy == (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert "fetch(" not in script
    assert "http" not in script


def test_a_page_without_a_trial_has_neither_script_nor_anything_of_it() -> None:
    page = page_with(None)

    assert "<script" not in page
    assert "script-src" not in page
    assert "trial" not in page


def test_a_field_has_the_images_form() -> None:
    trial = Trial.of(FACTS)

    assert trial.students == ("s",)
    assert trial.field == (140, 280)
    assert not trial.has_samples
