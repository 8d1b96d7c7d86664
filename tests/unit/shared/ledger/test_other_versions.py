"""What other versions write is read: the last one's records as it wrote them, and a later one's with fields besides.

`records_of_0_1.json` has the texts that commit c006954 has written.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distill_queue.shared.errors import ArtifactDamaged, UnreadableRecord
from distill_queue.shared.frozen import Frozen
from distill_queue.shared.ledger.refusals import Refusal
from distill_queue.shared.ledger.status import PipelineStatus, StageState, UnreadablePipeline, standing
from distill_queue.shared.ledger.workers import WorkerEntry
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import ArtifactRef
from distill_queue.shared.results.history import History
from distill_queue.shared.results.stage_record import StageRecord
from distill_queue.shared.store.manifest import Manifest, manifest_of
from distill_queue.shared.store.submissions import Submission

TEXTS: dict[str, str] = json.loads(Path(__file__).with_name("records_of_0_1.json").read_text())
KINDS: dict[str, type[Frozen]] = {
    "plan": Plan,
    "state": StageState,
    "record": StageRecord,
    "worker": WorkerEntry,
    "refusal": Refusal,
    "submission": Submission,
    "manifest": Manifest,
}
MANIFEST = json.loads(TEXTS["manifest"])
REF = ArtifactRef(kind=MANIFEST["kind"], key=MANIFEST["key"])


def with_news(facts: Any, path: str = "") -> Any:
    """The facts with a field that this version does not know in each object, but for recipes and maps of names."""
    if isinstance(facts, list):
        return [with_news(each, path) for each in facts]
    if not isinstance(facts, dict):
        return facts
    closed = path.endswith(("recipe", "files", "versions", "time_limits", "inputs"))
    inner = {name: each if name == "recipe" else with_news(each, f"{path}.{name}") for name, each in facts.items()}
    return inner if closed else {"news": {"of": ["a later version"]}} | inner


def sealed(facts: dict[str, Any]) -> bytes:
    """The text of a manifest with other fields, as a version that knows them seals it."""
    content = {name: each for name, each in facts.items() if name != "checksum"}
    compact = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    checksum = hashlib.sha256(compact.encode()).hexdigest()
    return json.dumps(content | {"checksum": checksum}, indent=1, ensure_ascii=False).encode()


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_last_version_wrote_is_read_and_written_alike(kind: str) -> None:
    text = TEXTS[kind]

    read = KINDS[kind].read(text, kind)

    assert json.loads(read.model_dump_json(exclude_unset=True)) == json.loads(text)


@pytest.mark.parametrize("kind", KINDS)
def test_fields_of_a_later_version_are_passed_over(kind: str) -> None:
    news = json.dumps(with_news(json.loads(TEXTS[kind])))
    assert news.count("news") > 0

    assert KINDS[kind].read(news, kind) == KINDS[kind].read(TEXTS[kind], kind)


def test_the_history_of_a_training_may_have_more_fields() -> None:
    assert History.model_validate(json.loads(TEXTS["history"]) | {"news": 1}).losses == (1.0,)


def test_stages_that_the_last_version_planned_have_the_same_keys() -> None:
    assert all(stage.of_this_version for stage in Plan.read(TEXTS["plan"], "plan").stages)


def test_a_recipe_with_an_unknown_ingredient_is_never_taken_for_a_known_one() -> None:
    facts = json.loads(TEXTS["plan"])
    facts["trunk"][1]["recipe"]["news"] = 1

    with pytest.raises(UnreadableRecord, match="the plan was written by another version of distill-queue") as error:
        Plan.read(json.dumps(facts), "the plan")

    assert "news" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_sound_manifest_of_a_later_version_is_none_that_was_altered() -> None:
    manifest = manifest_of(REF, sealed(with_news(MANIFEST)), "here")

    assert manifest.record == Manifest.read(TEXTS["manifest"], "manifest").record
    assert manifest_of(REF, TEXTS["manifest"].encode(), "here").whole


@pytest.mark.parametrize(
    "altered",
    [
        lambda text: re.sub(rb'"seconds": 0.25', b'"seconds": 0.26', text),
        lambda text: re.sub(rb'"news"', b'"olds"', text),
        lambda text: re.sub(rb"^{", b'{"added": 1,', text),
    ],
)
def test_an_altered_manifest_of_a_later_version_is_found(altered: Any) -> None:
    text = altered(sealed(with_news(MANIFEST)))

    with pytest.raises(ArtifactDamaged, match="altered"):
        manifest_of(REF, text, "here")


def test_an_unknown_field_that_was_put_into_a_manifest_afterwards_is_found() -> None:
    text = TEXTS["manifest"].replace("{", '{"added": 1,', 1).encode()

    with pytest.raises(ArtifactDamaged, match="altered"):
        manifest_of(REF, text, "here")


def unreadable() -> Iterator[tuple[str, dict[str, str], str]]:
    """Fields of a pipeline that cannot be read, and the message about it."""
    whole = {"plan": TEXTS["plan"], "submitted": "1764180000.0"}
    facts = json.loads(TEXTS["plan"])
    for name, fields, why in (
        ("garbage", {"plan": "garbage"}, "is not readable: Invalid JSON"),
        ("empty", {"plan": ""}, "is not readable: Invalid JSON"),
        ("a list", {"plan": "[]"}, "is not readable: Input should be an object"),
        ("deep", {"plan": '{"a":' * 10_000}, "is not readable: Invalid JSON: recursion"),
        ("no text", {"plan": "{\udcff"}, "is not readable"),
        ("no stages", {"plan": json.dumps(facts | {"trunk": []})}, "another version.*: trunk: "),
        ("an empty branch", {"plan": json.dumps(facts | {"branches": [[]]})}, "another version.*: branches.0: "),
        ("a device", {"plan": json.dumps(facts | {"device": "tpu"})}, "another version.*: device: "),
        ("no number", {"submitted": "abc"}, "'abc' is no time"),
        ("no time", {"submitted": "nan"}, "'nan' is no time"),
        ("far", {"submitted": "1e300"}, "'1e300' is no time"),
        ("none", {"submitted": ""}, "'' is no time"),
    ):
        yield name, whole | fields, why


@pytest.mark.parametrize(("name", "fields", "why"), list(unreadable()))
def test_a_pipeline_that_cannot_be_read_is_told_of_in_one_line(name: str, fields: dict[str, str], why: str) -> None:
    found = standing(name, fields)

    assert isinstance(found, UnreadablePipeline)
    assert re.search(why, found.why)
    assert f"'{name}'" in found.why
    assert "\n" not in found.why
    assert len(found.why) < 400


@pytest.mark.parametrize(
    "text", ["garbage", "[]", "5", '{"state": "asleep"}', '{"share": NaN}', '{"began": 1e999}', "\udcff"]
)
def test_a_stage_whose_state_or_record_cannot_be_read_costs_only_itself(text: str) -> None:
    plan = Plan.read(TEXTS["plan"], "plan")
    done, asked, *others = (stage.key for stage in plan.stages)
    fields = {"plan": TEXTS["plan"], "submitted": "1", f"state:{asked}": text, f"record:{done}": text}
    fields[f"state:{others[0]}"] = TEXTS["state"]

    status = PipelineStatus.of("p", fields)

    assert (status.states[done].state, status.states[done].record) == ("done", None)
    assert status.states[done].progress.startswith("its record ")
    assert status.states[asked].state == "waiting"
    assert status.states[asked].progress.startswith("its state ")
    assert status.states[others[0]].progress == "epoch 1"
