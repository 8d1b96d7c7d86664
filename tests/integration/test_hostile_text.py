"""Text of others, in the broker, the store and files, commands no terminal in which it is shown."""

from __future__ import annotations

import gc
import json
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from celery.contrib.testing.worker import start_worker

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.shared.broker.connection import connect
from distill_queue.shared.ledger.logs import PipelineLogs
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import STAGE_FORMAT
from distill_queue.shared.results.records import EvaluationRecord
from distill_queue.shared.results.scores import Estimate, ReportRecord, StudentRun, StudentScore
from distill_queue.shared.results.stage_record import StageRecord
from distill_queue.shared.settings import Settings
from distill_queue.shared.soft_labels.cache import SoftLabelsHeader
from distill_queue.shared.soft_labels.encoding import Encoding
from distill_queue.shared.soft_labels.writer import SoftLabelsWriter
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.shared.store.manifest import Provenance
from distill_queue.worker.app import create

MakeSpec = Callable[..., PipelineSpec]
Command = Callable[..., tuple[int, str, str]]
#: A line break, a title and a link for a terminal, a colour by a control of one byte, a turned direction.
COMMANDS = "a\nERROR b \x1b]0;c\x07\x1b]8;;http://x\x1b\\ \x9b31m \u202ed"
#: Rich's markup.
MARKUP = "[bold red]e[/] [link=http://x]f[/] [/bold]"
#: What is to stay as it is: Chinese, Persian with its joiner, an accent, a family of one emoji.
LEGITIMATE = "李 می\u200cروم é 👩\u200d👧"
HOSTILE = f"{COMMANDS} {MARKUP} {LEGITIMATE}"

UNWRITABLE = """
import logging, os, sys
import numpy as np

class Mute(ValueError):
    def __str__(self):
        raise KeyError("no words")

class Loud(ValueError):
    def __str__(self):
        return "x" * 30_000_000

def data(how, **_):
    if how == "half of a pair":
        raise ValueError("\\ud800")
    if how == "commands":
        raise ValueError("a\\0\\x1b]0;b\\x07\\x9b31m\\u202e")
    if how == "bytes":
        open(os.fsdecode(b"/nowhere/\\xff.npy"))
    if how == "no words":
        raise Mute
    if how == "too many words":
        raise Loud
    print("printed \\udcff \\x1b[31mred\\x1b[0m")
    sys.stderr.write("complained \\ud800\\n")
    logging.addLevelName(35, "\\ud800")
    logging.getLogger("own\\ud800").log(35, "logged \\x1b]0;%s", "\\ud800", exc_info=Mute())
    inputs = np.zeros((8, 1, 4, 4), np.uint8)
    samples = {"train": (inputs, np.arange(8) % 2), "test": (inputs, np.arange(8) % 2)}
    return samples | {"class_names": (os.fsdecode(b"\\xff"), "b")}
"""


def evaluation() -> EvaluationRecord:
    return EvaluationRecord(
        samples=100, accuracy=0.9, negative_log_likelihood=0.5, agreement=None, parameters=10, multiply_adds=10,
        size_bytes=40, latency_median_ms=0.1, latency_p95_ms=0.2, throughput=1e3, device=HOSTILE, training_seconds=None,
    )  # fmt: skip


def enter_raw(settings: Settings, plan: Plan, pipeline: str) -> None:
    """Write a pipeline into the broker without our models, as an attacker may."""
    broker, facts = connect(settings), plan.model_dump(mode="json")
    for stage in facts["trunk"]:
        stage["title"] = HOSTILE
    key, last = plan.trunk[0].key, plan.report.key
    score = StudentScore(
        name=HOSTILE, runs=(StudentRun(seed=0, student=evaluation(), control=None),),
        accuracy=Estimate(mean=0.9, deviation=None, low=None, high=None, n=1),
        control_accuracy=None, gain=None, gap_closed=None,
    )  # fmt: skip
    done = StageRecord(
        key=last, kind="report", title=HOSTILE, outcome="computed", seconds=1.0, worker=HOSTILE,
        record=ReportRecord(teacher=None, students=(score,)),
    )  # fmt: skip
    fields = {
        "plan": json.dumps(facts),
        "submitted": str(time.time()),
        f"state:{key}": json.dumps({"state": "running", "progress": HOSTILE, "worker": HOSTILE, "error": HOSTILE}),
        f"record:{last}": done.model_dump_json(),
    }
    broker.hset(broker.names.pipeline(pipeline), mapping=fields)
    broker.zadd(broker.names.pipelines, {pipeline: time.time()})
    line = {"time": "0", "level": HOSTILE, "worker": HOSTILE, "stages": key[:8], "message": HOSTILE}
    broker.xadd(broker.names.log(pipeline), line)  # type: ignore[arg-type]


def enter_worker(settings: Settings) -> None:
    broker = connect(settings)
    entry = {
        "name": HOSTILE, "host": HOSTILE, "pid": 1, "queues": ["any", HOSTILE], "versions": {"torch": HOSTILE},
        "stage_format": STAGE_FORMAT, "store": HOSTILE, "does": HOSTILE, "trouble": "", "seen": time.time(),
    }  # fmt: skip
    for name, changes in {HOSTILE: {}, "troubled": {"trouble": HOSTILE}}.items():
        broker.set(broker.names.worker(name), json.dumps(entry | changes))
        broker.sadd(broker.names.workers, name)
    refusal = {"time": 0.0, "worker": HOSTILE, "reason": HOSTILE, "task": HOSTILE, "queue": HOSTILE, "body": HOSTILE}
    broker.lpush(broker.names.refused, json.dumps(refusal))
    broker.incr(broker.names.refused_count)


def enter_artifact(settings: Settings, plan: Plan) -> Path:
    """An artifact of soft labels whose names of classes, title and host are hostile."""
    store, ref = FolderStore(settings.folder), plan.trunk[0].ref
    with store.draft(ref) as draft:
        (draft / "data").write_text("x")
        provenance = Provenance(host=HOSTILE, device=HOSTILE, versions={})
        made = store.commit(ref, draft, stage=plan.trunk[0], record=None, provenance=provenance, seconds=1.0)
    manifest = made.folder / "manifest.json"
    facts = json.loads(manifest.read_text("utf-8"))
    facts["stage"]["title"] = HOSTILE
    manifest.write_text(json.dumps(facts), encoding="utf-8")
    header = SoftLabelsHeader(
        dataset_key="", teacher_key="", class_names=(HOSTILE, "b\x1b"), samples=2, views=1, block_rows=2,
        encoding=Encoding(dtype="float32"), augmentation={}, augmentation_fingerprint="",
    )  # fmt: skip

    folder = settings.folder.parent / "cache"
    folder.mkdir()
    writer = SoftLabelsWriter.begin(folder, header)
    writer.write(0, np.zeros((2, 2), np.float32))
    return writer.seal().folder


@pytest.fixture
def worker(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A worker in a thread of this process that may import own code which says what cannot be written."""
    (tmp_path / "unwritable.py").write_text(UNWRITABLE)
    monkeypatch.syspath_prepend(str(tmp_path))
    app = create(settings.model_copy(update={"plugins": ("unwritable",)}))
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30, loglevel="info"):
        yield
    gc.collect()


def obeyed(text: str) -> set[str]:
    """What a terminal would obey, but for line breaks."""
    hidden = {each for each in text if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    return hidden - set("\n\u200c\u200d")


def test_nothing_that_others_have_written_is_obeyed_by_the_terminal(
    settings: Settings, command: Command, make_spec: MakeSpec, write_spec: Callable[..., Path]
) -> None:
    plan = Plan.of(make_spec())
    for pipeline in ("known", f"id {HOSTILE}"):
        enter_raw(settings, plan, pipeline)
    enter_worker(settings)
    cache = enter_artifact(settings, plan)
    spec = write_spec(name="fine").rename(settings.folder.parent / f"{COMMANDS[:40].replace('/', '')}.yaml")
    wrong = write_spec(dataset={"name": HOSTILE})

    shown = {
        arguments: command(*arguments)
        for arguments in (
            ("status",), ("status", "known"), ("status", f"id {HOSTILE}"), ("status", HOSTILE), ("results", "known"),
            ("compare", "known"), ("results", "known", "--csv"), ("logs", "known"), ("logs", "known", HOSTILE),
            ("workers",), ("queues",), ("doctor",), ("validate", spec), ("validate", wrong), ("plan", spec),
            ("labels", "info", cache), ("labels", "head", cache), ("store", "ls"), ("store", "verify"),
            ("store", "ls", "--kind", HOSTILE), ("cancel", HOSTILE), ("store", "verify", HOSTILE),
            ("report", f"id {HOSTILE}"), (HOSTILE,), (f"--{HOSTILE}",), ("plan", "a", HOSTILE),
        )
    }  # fmt: skip
    facts = {
        arguments: command(*arguments)[1]
        for arguments in (
            ("status", "--json"), ("status", "known", "--json"), ("results", "known", "--json"),
            ("compare", "known", "--json"), ("workers", "--json"), ("queues", "--json"), ("logs", "known", "--json"),
            ("store", "ls", "--json"),
        )
    }  # fmt: skip

    for arguments, (code, out, err) in shown.items():
        assert not obeyed(out + err), (arguments, out, err)
        assert code in (0, 1, 2), (arguments, out, err)
        assert "Traceback" not in err, arguments
    for arguments, text in facts.items():
        assert not obeyed(text), (arguments, text)
        assert json.loads(text)
    for arguments in (("logs", "known"), ("results", "known"), ("status", "known")):
        assert MARKUP in " ".join(shown[arguments][1].split()), arguments
        assert LEGITIMATE in " ".join(shown[arguments][1].split()), arguments
    assert all(line.startswith(("00:", "01:", " ")) for line in shown["logs", "known"][1].splitlines())


@pytest.mark.usefixtures("worker")
def test_own_code_that_says_what_cannot_be_written_fails_with_a_readable_error(
    settings: Settings, make_spec: MakeSpec
) -> None:
    client, logs = PipelineClient(settings), PipelineLogs(connect(settings), settings.history_seconds)
    said = {
        "half of a pair": r"ValueError: \ud800 (unwritable.py:15)",
        "commands": r"ValueError: a\x00\x1b]0;b\x07\x9b31m\u202e (unwritable.py:17)",
        "bytes": r"FileNotFoundError: [Errno 2] No such file or directory: '/nowhere/\udcff.npy' (unwritable.py:19)",
        "no words": "Mute: its text cannot be had: KeyError (unwritable.py:21)",
        "too many words": f"Loud: {'x' * 494} … (more of it is in the log) (unwritable.py:23)",
    }

    *failing, fine = (
        client.submit(make_spec(name="own", dataset={"name": "unwritable:data", "options": {"how": how}}))
        for how in (*said, "fine")
    )
    ends = [[*client.watch(pipeline)][-1] for pipeline in failing]
    stage = fine.status.plan.trunk[0]
    next(status for status in client.watch(fine) if status.states[stage.key].state == "done")
    fine.cancel()

    assert [end.errors for end in ends] == [[f"prepare unwritable:data: {error}"] for error in said.values()]
    data = FolderStore(settings.folder).open(stage.ref)
    assert data.manifest.record.class_names == (r"\udcff", "b")
    lines = logs.follow(fine.id, lambda: fine.status.finished)
    told = {line.message: line.level for line in lines}
    assert told[r"printed \udcff red"] == "INFO"
    assert told[r"complained \ud800"] == "WARNING"
    (logged,) = (message for message in told if message.startswith(r"logged \x1b]0;\ud800"))
    assert logged.endswith("Mute: <exception str() failed>")
    assert told[logged] == r"\ud800"
