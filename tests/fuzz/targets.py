"""Targets: the entrances of the project, each with examples of what is right and a way in."""

from __future__ import annotations

import atexit
import hashlib
import io
import json
import os
import random
import shutil
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import yaml

from distill_queue.shared.errors import DistillError
from tests.fuzz.mutation import NUMBERS, TEXTS, as_json, mutated, mutated_tree

Examples = Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Target:
    """An entrance."""

    name: str
    #: Makes examples, in a folder of its own.
    examples: Callable[[Path], Examples]
    #: Makes an input of examples.
    make: Callable[[random.Random, Examples], bytes]
    #: Gives an input to the code, in a folder of its own.
    feed: Callable[[bytes, Path], None]


def _as_bytes(*words: bytes) -> Callable[[random.Random, Examples], bytes]:
    return lambda generator, examples: mutated(generator, examples, words)


def _as_tree(generator: random.Random, examples: Examples) -> bytes:
    return as_json(generator, mutated_tree(generator, [json.loads(each) for each in examples]))


def _either(*ways: Callable[[random.Random, Examples], bytes]) -> Callable[[random.Random, Examples], bytes]:
    return lambda generator, examples: generator.choice(ways)(generator, examples)


SMALL: dict[str, Any] = {
    "name": "tiny",
    "dataset": {"name": "digits"},
    "teacher": {"model": {"name": "mlp", "hidden": [32]}, "training": {"epochs": 2}},
    "students": [{"name": "small", "model": {"name": "mlp", "hidden": [8]}, "training": {"epochs": 2}, "seeds": 2}],
}


# ------------------------------------------------------------------------------------------------------------- specs


def _example_specs() -> list[Any]:
    folder = Path(__file__).parents[2] / "examples"
    return [SMALL, *(yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yaml")))]


def _yaml_examples(_folder: Path) -> Examples:
    folder = Path(__file__).parents[2] / "examples"
    return [yaml.safe_dump(SMALL).encode(), *(path.read_bytes() for path in sorted(folder.glob("*.yaml")))]


def _yaml_tree(generator: random.Random, examples: Examples) -> bytes:
    tree = mutated_tree(generator, [yaml.safe_load(each) for each in examples])
    with suppress(RecursionError, ValueError):
        return yaml.safe_dump(tree).encode("utf-8", "surrogatepass")
    return mutated(generator, examples)


def _json_examples(_folder: Path) -> Examples:
    return [json.dumps(each).encode() for each in _example_specs()]


def _toml_examples(_folder: Path) -> Examples:
    return [
        b'name = "tiny"\n[dataset]\nname = "digits"\n[teacher.model]\nname = "mlp"\nhidden = [32]\n'
        b'[teacher.training]\nepochs = 2\n[[students]]\nname = "small"\nmodel = {name = "mlp", hidden = [8]}\n'
    ]


def _spec(suffix: str) -> Callable[[bytes, Path], None]:
    def feed(data: bytes, folder: Path) -> None:
        from distill_queue.shared.plan.plan import Plan
        from distill_queue.shared.spec.pipeline import PipelineSpec

        (path := folder / f"spec{suffix}").write_bytes(data)
        Plan.of(PipelineSpec.load(path))

    return feed


def _set_examples(_folder: Path) -> Examples:
    return [
        b"students.0.training.epochs=3", b"teacher.model={name: mlp, hidden: [1, 2]}", b"name=other", b"seeds=[1, 2]",
        b"dataset.options.a.b.c=1", b"students.0.distillation.temperature=2", b"soft_labels.top_k=5",
    ]  # fmt: skip


def _feed_set(data: bytes, folder: Path) -> None:
    from distill_queue.shared.plan.plan import Plan
    from distill_queue.shared.spec.pipeline import PipelineSpec

    (path := folder / "spec.json").write_text(json.dumps(SMALL))
    Plan.of(PipelineSpec.load(path, (data.decode(errors="surrogateescape"),)))


def _settings_examples(_folder: Path) -> Examples:
    from distill_queue.shared.settings import Settings

    usual = Settings(store="/srv/store").environment
    more = {
        "DISTILL_TIME_LIMITS": '{"train_teacher": 60}',
        "DISTILL_SIGNING_KEY": "a" * 32 + "," + "b" * 32,
        "DISTILL_STORE": "s3://bucket/prefix",
        "DISTILL_PLUGINS": "a, b.c",
        "DISTILL_BROKER_URL": "rediss://me:secret@host:6380/1",
        "DISTILL_BROKER_CA": "<folder>/ca.pem",
    }
    return [json.dumps(each).encode() for each in (usual, more, usual | more)]


def _settings_texts(generator: random.Random, examples: Examples) -> bytes:
    values = json.loads(generator.choice(examples))
    for _ in range(generator.choice((1, 1, 2, 4))):
        name = generator.choice(list(values))
        values[name] = generator.choice(
            (
                generator.choice(TEXTS),
                str(generator.choice(NUMBERS)),
                mutated(generator, [values[name].encode(errors="replace")]).decode(errors="surrogateescape"),
                json.dumps(mutated_tree(generator, [{"train_teacher": 60, "distill": 1.5}])),
            )
        )
    return json.dumps(values).encode()


def _feed_settings(data: bytes, folder: Path) -> None:
    from distill_queue.shared.settings import Settings

    (folder / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    texts = {name: str(value).replace("\0", "") for name, value in json.loads(data).items()}
    values = {name: text.replace("<folder>", str(folder)) for name, text in texts.items()}
    with suppress(UnicodeEncodeError), patch.dict(os.environ, values):  # Which holds no other half characters.
        found = Settings.load()
        _ = found.environment, found.broker_address, found.folder, found.anywhere, found.signing_keys, found.tls


# ------------------------------------------------------------------------------------------------- files of the store


def _manifests(_folder: Path) -> Examples:
    from distill_queue.shared.plan.plan import Plan
    from distill_queue.shared.results.records import WeightsRecord
    from distill_queue.shared.spec.pipeline import PipelineSpec
    from distill_queue.shared.store.manifest import FileEntry, Manifest, Provenance

    content = FileEntry(size_bytes=7, sha256=hashlib.sha256(b"content").hexdigest())
    return [
        Manifest(
            kind=stage.kind, key=stage.key, stage=stage, files={"file": content}, record=WeightsRecord(parameters=1),
            provenance=Provenance(host="here", device="cpu", versions={"torch": "2"}), seconds=1.0, created=1.7e9,
        ).sealed().model_dump_json(indent=1).encode()
        for stage in Plan.of(PipelineSpec.model_validate(SMALL)).stages
    ]  # fmt: skip


def _sealed_manifest(generator: random.Random, examples: Examples) -> bytes:
    """A manifest with changes made on purpose: its checksum is right."""
    tree = mutated_tree(generator, [json.loads(each) for each in examples])
    if not isinstance(tree, dict):
        return json.dumps(tree).encode()
    tree.pop("checksum", None)
    with suppress(RecursionError):
        content = json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
        return content[:-1] + b',"checksum":"' + hashlib.sha256(content).hexdigest().encode() + b'"}'
    return b"{}"


def _feed_manifest(data: bytes, folder: Path) -> None:
    from distill_queue.scheduler.cli.store import _row, _verdict_line
    from distill_queue.scheduler.maintenance.inventory import holdings, verdict_on
    from distill_queue.scheduler.maintenance.needed_artifacts import NeededArtifacts
    from distill_queue.shared.plan.stage import ArtifactRef
    from distill_queue.shared.store.folder_store import FolderStore

    store, first = FolderStore(folder / "store"), json.loads(_FIRST[0])
    ref = ArtifactRef(kind=first["kind"], key=first["key"])
    store.folder(ref).mkdir(parents=True)
    (store.folder(ref) / "manifest.json").write_bytes(data)
    (store.folder(ref) / "file").write_text("content")
    for holding in holdings(store, NeededArtifacts()):
        _row(holding)
    if verdict := verdict_on(store, ref):
        _verdict_line(verdict)
    store.find(ref)


_FIRST: list[bytes] = []


def _kept_manifests(folder: Path) -> Examples:
    _FIRST[:] = _manifests(folder)
    return _FIRST


def _submissions(_folder: Path) -> Examples:
    from distill_queue.shared.plan.plan import Plan
    from distill_queue.shared.spec.pipeline import PipelineSpec
    from distill_queue.shared.store.submissions import Submission

    plan = Plan.of(PipelineSpec.model_validate(SMALL))
    return [Submission(plan=plan, canvas='{"task": "a"}').model_dump_json().encode()]


def _feed_submission(data: bytes, folder: Path) -> None:
    from distill_queue.scheduler.maintenance.needed_artifacts import NeededArtifacts
    from distill_queue.shared.store.folder_store import FolderStore
    from distill_queue.shared.store.submissions import Submissions

    (folder / "store" / "pipelines").mkdir(parents=True)
    (folder / "store" / "pipelines" / "a-1.json").write_bytes(data)
    submissions = Submissions(FolderStore(folder / "store"))
    NeededArtifacts.now(None, submissions)
    list(submissions)


def _store_trees(_folder: Path) -> Examples:
    key = "ab" + "0" * 62
    folders = [
        f"artifacts/train_teacher/ab/{key}", f"partial/{key}/draft-1", f"damaged/train_teacher-{key}-1",
        f"trash/1-ab/partial+{key}", f"trash/1-ab/artifacts+train_teacher+ab+{key}", f"trash/1-ab.doomed/partial+{key}",
        "trash/1-ab/..+..+escaped", "trash/1-ab.doomed/..+x", "pipelines",
    ]  # fmt: skip
    return [json.dumps(dict.fromkeys(folders, "file")).encode()]


def _tree_of_links(generator: random.Random, examples: Examples) -> bytes:
    tree: dict[str, str] = json.loads(examples[0])
    for _ in range(generator.randint(1, 4)):
        parts = generator.choice(list(tree)).split("/")
        at = generator.randrange(len(parts))
        match generator.randrange(3):
            case 0:
                tree["/".join(parts[: at + 1])] = generator.choice(("link", "loop", "pipe", "file", "link to a file"))
            case 1:
                name = generator.choice(
                    ("..+x", "..+..+x", "+x", "a+..", "..", ".x", "", "partial+..", "a" * 64, "1-ab")
                )
                tree["/".join((*parts[:at], name, *parts[at + 1 :]))] = generator.choice(("file", "link"))
            case _:
                tree["/".join(parts)] = "link"
    return json.dumps(tree).encode()


def _feed_garbage(data: bytes, folder: Path) -> None:
    from distill_queue.scheduler.maintenance.garbage import Garbage
    from distill_queue.scheduler.maintenance.inventory import holdings
    from distill_queue.scheduler.maintenance.needed_artifacts import NeededArtifacts
    from distill_queue.shared.store.folder_store import FolderStore

    store, outside = FolderStore(folder / "store"), folder / "outside"
    key = "ab" + "0" * 62
    for name in (key, f"ab/{key}", f"train_teacher/ab/{key}", f"1-ab.doomed/partial+{key}", f"1-ab/partial+{key}"):
        (outside / name).mkdir(parents=True)
        (outside / name / "file").write_text("somebody's")
    before = sorted(outside.rglob("*"))
    for name, what in sorted(json.loads(data).items()):
        path = store.root / (name or "x")
        with suppress(OSError, ValueError, RuntimeError):
            if not path.resolve().is_relative_to(store.root.resolve()):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            match what:
                case "link":
                    path.symlink_to(outside)
                case "link to a file":
                    path.symlink_to(outside / key / "file")
                case "loop":
                    path.symlink_to(path)
                case "pipe":
                    os.mkfifo(path)
                case _:
                    path.mkdir(exist_ok=True)
                    (path / "file").write_text("x")
    garbage = Garbage(store, NeededArtifacts, -1.0)
    garbage.clear_trash()
    garbage.remove(garbage.find())
    holdings(store, NeededArtifacts())
    for name in ("partial", "damaged", "trash"):
        store.bytes_below(name)
    assert sorted(outside.rglob("*")) == before, "something outside of the store was removed"
    assert {path.name for path in folder.iterdir()} == {"store", "outside"}, "something was moved out of the store"


# -------------------------------------------------------------------------------------------- labels, arrays, weights

_LOGITS = np.random.default_rng(0).normal(size=(2, 6, 3)).astype(np.float32)
_FACTS = json.dumps({"class_names": ["a", "b", "c"], "dataset_key": "d" * 64, "augmentation": {"shift": 1}})


def _npz_examples(_folder: Path) -> Examples:
    examples = []
    for write, more in (
        (np.savez, {"facts": np.array(_FACTS)}),
        (np.savez_compressed, {"class_names": np.array(["a", "b", "c"])}),
    ):
        write(buffer := io.BytesIO(), logits=_LOGITS, **more)
        examples.append(buffer.getvalue())
    return examples


def _repacked(generator: random.Random, examples: Examples) -> bytes:
    """An archive that is whole, of members that are not."""
    import zipfile

    with zipfile.ZipFile(io.BytesIO(generator.choice(examples))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = generator.choice(list(members))
    members[name] = mutated(generator, [members[name]], (b"1000000000000000", b"'|O'", b"'<U4000000'", b"True", b"(("))
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", generator.choice((0, 8))) as archive:
        for each, content in members.items():
            archive.writestr(zipfile.ZipInfo(each), content, archive.compression)  # Of one time, whenever it is made.
    return buffer.getvalue()


def _safetensors_examples(_folder: Path) -> Examples:
    from safetensors.numpy import save

    return [save({"logits": _LOGITS}, {"facts": _FACTS}), save({"logits": _LOGITS[0].astype(np.float16)})]


def _with_header(generator: random.Random, examples: Examples) -> bytes:
    """A safetensors file whose header is JSON, of another content."""
    data = generator.choice(examples)
    length = int.from_bytes(data[:8], "little")
    header = as_json(generator, mutated_tree(generator, [json.loads(data[8 : 8 + length])]))
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def _label_file(suffix: str) -> Callable[[bytes, Path], None]:
    def feed(data: bytes, folder: Path) -> None:
        from distill_queue.scheduler.labels.caches import import_file
        from distill_queue.shared.soft_labels.encoding import Encoding

        (path := folder / f"labels{suffix}").write_bytes(data)
        try:
            import_file(path, folder / "cache", Encoding(dtype="float16")).verify()
        finally:
            if not (folder / "cache").exists():
                assert [each.name for each in folder.iterdir()] == [path.name], "half a cache was left"

    return feed


def _cache_examples(folder: Path) -> Examples:
    from distill_queue.shared.soft_labels.cache import HEADER
    from distill_queue.shared.soft_labels.encoding import Encoding
    from tests.unit.shared.soft_labels.test_soft_labels import written

    encodings = [Encoding(dtype="float32"), Encoding(dtype="uint8", top_k=2)]
    caches = [written(folder / str(place), _LOGITS, encoding=each).folder for place, each in enumerate(encodings)]
    return [(cache / HEADER).read_bytes() for cache in caches]


def _sealed_header(generator: random.Random, examples: Examples) -> bytes:
    """A header with changes made on purpose: its checksum is right."""
    import xxhash

    tree = mutated_tree(generator, [json.loads(each) for each in examples])
    if isinstance(tree, dict):
        tree.pop("checksum", None)
        with suppress(RecursionError, TypeError, UnicodeEncodeError):
            text = json.dumps(tree, sort_keys=True, separators=(",", ":"))
            tree["checksum"] = xxhash.xxh3_128_hexdigest(text.encode())
    return json.dumps(tree).encode()


def _feed_cache(data: bytes, folder: Path) -> None:
    from distill_queue.shared.soft_labels.cache import HEADER, SoftLabels

    rows = _LOGITS.size // 3
    for name, content in (
        ("logits", _LOGITS.tobytes()), ("indices", bytes(2 * rows)), ("values", bytes(2 * rows)),
        ("log_sum_exp", bytes(8 * rows)), ("scales", bytes(8 * rows)), (HEADER, data),
    ):  # fmt: skip
        (folder / (name if name == HEADER else f"{name}.bin")).write_bytes(content)
    labels = SoftLabels.open(folder)
    labels.verify()
    labels.batch(slice(None))


def _array_examples(_folder: Path) -> Examples:
    examples = []
    for array in (_LOGITS, np.arange(9, dtype=np.int64), np.zeros((2, 3), np.uint8)):
        np.save(buffer := io.BytesIO(), array)
        examples.append(buffer.getvalue())
    return examples


def _feed_array(data: bytes, folder: Path) -> None:
    from distill_queue.shared.files.array_file import read_array

    (path := folder / "x.npy").write_bytes(data)
    read_array(path).sum()
    read_array(path, mapped=True).sum()


def _checkpoint_examples(folder: Path) -> Examples:
    import torch

    from distill_queue.worker.training.checkpoints import Checkpoint, Checkpoints

    Checkpoints(folder, 1.0).save(3, Checkpoint({"a": torch.zeros(3, 2), "b": torch.arange(4)}, {"step": 3}))
    return [path.read_bytes() for path in folder.iterdir()]


def _feed_checkpoint(data: bytes, folder: Path) -> None:
    from distill_queue.worker.training.checkpoints import Checkpoints

    # Its name has its checksum: its writer meant it so.
    (folder / f"{3:012}-{hashlib.sha256(data).hexdigest()}.safetensors").write_bytes(data)
    Checkpoints(folder, 1.0).latest()


def _teacher_examples(_folder: Path) -> Examples:
    import torch
    from safetensors.torch import save

    weights = _teacher().state_dict()
    torch.save(weights, pickled := io.BytesIO())
    renamed = {f"module.{name}": tensor for name, tensor in weights.items()}
    return [save(weights), save(weights), save(renamed), save(weights, {"format": "pt"}), pickled.getvalue()]


def _teacher() -> Any:
    from distill_queue.worker.models import Mlp

    return Mlp(4, (3,), 2)


def _teacher_bytes(generator: random.Random, examples: Examples) -> bytes:
    return _with_header(generator, examples[:-1]) if generator.random() < 0.5 else mutated(generator, examples)


def _feed_teacher(data: bytes, folder: Path) -> None:
    from distill_queue.shared.files.weights_file import misfit, tensors_in
    from distill_queue.worker import models

    (path := folder / "teacher.safetensors").write_bytes(data)
    model = _teacher()
    misfit(tensors_in(path), {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()})
    models.load(model, path)


# ------------------------------------------------------------------------------------------------- what a broker holds


def _events(_folder: Path) -> Examples:
    usual = {"hostname": "w@x", "timestamp": 1.7e9, "utcoffset": 0.0, "clock": 3, "pid": 1, "local_received": 1.7e9}
    worker = usual | {"freq": 2.0, "active": 1, "processed": 4, "loadavg": [1, 2.0, 3], "sw_ident": "py-celery"}
    task = usual | {"uuid": "u", "name": "distill.distill", "kwargs": "a · b", "runtime": 1.5, "retries": 0}
    kinds = [("worker-online", worker), ("worker-heartbeat", worker), ("worker-offline", usual)]
    kinds += [(f"task-{each}", task) for each in ("sent", "received", "started", "succeeded", "failed", "progress")]
    return [json.dumps([fields | {"type": kind}]).encode() for kind, fields in kinds]


def _feed_events(data: bytes, _folder: Path) -> None:
    from celery.events.state import State

    from distill_queue.scheduler.monitor.events import cleaned_batch

    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return  # Celery refuses it.
    state = State()
    for event in cleaned_batch(body):
        state.event({"clock": 1, "local_received": 1.7e9} | event)
    for worker in state.workers.values():
        _ = worker.alive, [getattr(worker, name) for name in worker._fields]
        json.dumps(worker.loadavg, allow_nan=False)
    for _uuid, task in state.tasks_by_time():
        f"{task.as_dict()}".encode()
        float(task.runtime or 0.0)


_SERVERS = ExitStack()
atexit.register(_SERVERS.close)
_BROKER: list[Any] = []


def _records(folder: Path) -> Examples:
    """The broker's records of a pipeline with one finished stage, of a worker, and of a refused message."""
    from distill_queue.scheduler.stack.local import LocalStack
    from distill_queue.shared.ledger.refusals import Refusal
    from distill_queue.shared.ledger.status import StageState
    from distill_queue.shared.ledger.workers import WorkerEntry
    from distill_queue.shared.plan.plan import Plan
    from distill_queue.shared.results.records import WeightsRecord
    from distill_queue.shared.results.stage_record import StageRecord
    from distill_queue.shared.settings import Settings
    from distill_queue.shared.spec.pipeline import PipelineSpec

    if not _BROKER:
        server = _SERVERS.enter_context(LocalStack(Settings(store=str(folder / "server")), workers=0))
        _BROKER[:] = [server.settings]
    plan = Plan.of(PipelineSpec.model_validate(SMALL))
    first, second, *_ = plan.stages
    record = StageRecord(
        key=first.key, kind=first.kind, title=first.title, outcome="computed", seconds=1.0, worker="w@x",
        record=WeightsRecord(parameters=1),
    )  # fmt: skip
    fields = {
        "plan": plan.model_dump_json(),
        "submitted": "1700000000.5",
        f"record:{first.key}": record.model_dump_json(),
        f"state:{second.key}": StageState(state="running", progress="epoch 1", worker="w@x").model_dump_json(),
    }
    worker = WorkerEntry(
        name="w@x",
        host="x",
        pid=7,
        queues=("cpu", "any"),
        versions={"torch": "2"},
        stage_format=5,
        store="/s",
        seen=1.7e9,
    ).model_dump_json()
    refusal = Refusal(time=1.7e9, worker="w@x", reason="no").model_dump_json()
    parts = {"fields": {name: json.loads(text) for name, text in fields.items()}}
    more = parts | {"worker": json.loads(worker), "refusal": json.loads(refusal)}
    cancelled = parts | {"fields": parts["fields"] | {"cancelled": "1700000001"}}
    return [json.dumps(each).encode() for each in (more, cancelled)]


def _feed_records(data: bytes, folder: Path) -> None:
    import redis

    from distill_queue.scheduler.client.client import PipelineClient
    from distill_queue.scheduler.maintenance.needed_artifacts import NeededArtifacts
    from distill_queue.shared.broker.connection import connect
    from distill_queue.shared.broker.signing import NO_KEYS
    from distill_queue.shared.ledger.ledger import Ledger
    from distill_queue.shared.ledger.refusals import Refusals
    from distill_queue.shared.ledger.workers import WorkerRegistry
    from distill_queue.shared.store.folder_store import FolderStore
    from distill_queue.shared.store.submissions import Submissions

    settings = _BROKER[0]
    try:
        parts = json.loads(data)
        parts = parts if isinstance(parts, dict) else {"fields": {"plan": parts}}
    except (ValueError, RecursionError):
        parts = {"fields": {"plan": data.decode(errors="surrogateescape")}}
    fields = parts.get("fields")
    fields = fields if isinstance(fields, dict) and fields else {"plan": fields}
    client = connect(settings, retries=0)
    ledger = Ledger(client, 1_000)
    with redis.Redis(**settings.broker.redis_options) as raw:
        raw.flushall()
        names = client.names
        raw.hset(names.pipeline("a-1"), mapping={_stored(name): _stored(value) for name, value in fields.items()})
        raw.zadd(names.pipelines, {"a-1": 1.7e9 if "old" in parts else time.time()})
        raw.zadd(names.unfinished, {"a-1": 1.7e9})
        raw.set(names.worker("w@x"), _stored(parts.get("worker")))
        raw.sadd(names.workers, "w@x")
        raw.lpush(names.refused, _stored(parts.get("refusal")))
    first = next((key.partition(":")[2] for key in fields if key.startswith("state:")), "0" * 64)
    for look in (
        lambda: ledger.status("a-1"),
        lambda: ledger.plan("a-1", NO_KEYS),
        lambda: ledger.pipelines(10),
        lambda: ledger.untouched_since(2e9),
        lambda: ledger.restate("a-1", [first], "w@x", lambda state: state),
        lambda: NeededArtifacts.now(ledger, Submissions(FolderStore(folder / "store"))),
        lambda: WorkerRegistry(client).workers(),
        lambda: (Refusals(client).last, Refusals(client).count),
        lambda: PipelineClient(settings).status("a-1").state,
    ):
        with suppress(DistillError):
            look()
    client.close()


def _stored(value: Any) -> bytes:
    """What a broker holds of a value: a text as it is, anything else as JSON."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode("utf-8", "surrogatepass")


def _entries(_folder: Path) -> Examples:
    body = json.dumps([["a-1", [{"key": "0" * 64}]], {}, {"callbacks": None, "errbacks": None, "chain": None}])
    headers = {"lang": "py", "task": "distill.distill", "id": "i", "eta": None, "timelimit": [None, 5], "retries": 0}
    properties = {
        "correlation_id": "i", "delivery_mode": 2, "delivery_info": {"exchange": "", "routing_key": "any"},
        "priority": 0, "body_encoding": "base64", "delivery_tag": "t", "reply_to": "r",
    }  # fmt: skip
    message = {
        "body": b64encode(body.encode()).decode(), "content-encoding": "utf-8", "content-type": "application/json",
        "headers": headers, "properties": properties,
    }  # fmt: skip
    return [json.dumps(message).encode(), json.dumps([message, "", "any"]).encode()]


def _feed_entry(data: bytes, _folder: Path) -> None:
    from distill_queue.shared.broker.entry import check_body, check_command, check_headers, read_entry, read_taken

    payload = read_entry(data, "any")
    taken, queue = read_taken(data)
    assert isinstance(queue, str)
    for each in (payload, taken):
        json.dumps(each).encode()
        for check, value in ((check_headers, each["headers"]), (check_body, each), (check_command, each)):
            with suppress(ValueError):
                check(value)
        with suppress(ValueError, TypeError, RecursionError):
            body = json.loads(b64decode(each["body"]))
            with suppress(ValueError):
                check_body(body)
            with suppress(ValueError):
                check_command(body)


TARGETS = (
    Target("spec.yaml", _yaml_examples, _either(_as_bytes(), _yaml_tree), _spec(".yaml")),
    Target("spec.json", _json_examples, _either(_as_bytes(), _as_tree), _spec(".json")),
    Target(
        "spec.toml", _toml_examples, _as_bytes(b"[a.b.c]\n", b'"""', b"[[x]]\n", b"x = 1979-05-27\n"), _spec(".toml")
    ),
    Target("set", _set_examples, _as_bytes(b"=", b".", b"!!float x", b"!!bool abc", b"students.0"), _feed_set),
    Target("settings", _settings_examples, _settings_texts, _feed_settings),
    Target("manifest", _kept_manifests, _either(_as_bytes(), _as_tree, _sealed_manifest), _feed_manifest),
    Target("submission", _submissions, _either(_as_bytes(), _as_tree), _feed_submission),
    Target("garbage", _store_trees, _tree_of_links, _feed_garbage),
    Target("labels.npz", _npz_examples, _either(_as_bytes(), _repacked), _label_file(".npz")),
    Target(
        "labels.safetensors", _safetensors_examples, _either(_as_bytes(), _with_header), _label_file(".safetensors")
    ),
    Target("cache", _cache_examples, _either(_as_bytes(), _as_tree, _sealed_header), _feed_cache),
    Target("array", _array_examples, _as_bytes(b"1000000000000000", b"'|O'", b"'<U9'", b"True", b"(("), _feed_array),
    Target("checkpoint", _checkpoint_examples, _either(_as_bytes(), _with_header), _feed_checkpoint),
    Target("teacher", _teacher_examples, _teacher_bytes, _feed_teacher),
    Target("records", _records, _either(_as_bytes(), _as_tree, _as_tree), _feed_records),
    Target("entry", _entries, _either(_as_bytes(), _as_tree), _feed_entry),
    Target("events", _events, _either(_as_bytes(), _as_tree, _as_tree), _feed_events),
)


def emptied(folder: Path) -> Path:
    """A folder with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
