"""How far stages are and why they wait, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill_queue.shared.ledger.status import PipelineStatus, State, UnreadablePipeline
from distill_queue.shared.plan.plan import Plan

#: The queues that workers serve, and whether a worker of each obeys this client; None if that is not known.
Served = Mapping[str, bool] | None


def reasons(status: PipelineStatus, served: Served = None) -> dict[str, str]:
    """Why stages that have not begun wait, or will never begin, by key.

    Args:
        status: the state of their pipeline.
        served: the queues that workers serve.

    """
    found, predecessors, ancestors = {}, status.plan.predecessors, _ancestors(status.plan)
    unfinished = {
        stage.key: stage.title for stage in status.plan.stages if status.states[stage.key].state != State.DONE
    }
    failed = {key: title for key, title in unfinished.items() if status.states[key].state == State.FAILED}
    for stage in status.plan.stages:
        state = status.states[stage.key]
        if state.state == State.BLOCKED:
            # Its own inputs that failed; if none did, the stage whose failure kept its task from being sent.
            needed_of = [title for key, title in failed.items() if key in ancestors[stage.key]]
            found[stage.key] = f"never: {_listed(needed_of or list(failed.values()))} failed"
        elif state.state == State.WAITING:
            # Its inputs tell more than all the stages that its task comes after.
            needed = [ref.key for ref in stage.inputs.values() if ref.key in unfinished]
            last = [key for key in needed if not any(key in ancestors[other] for other in needed)]
            before = [unfinished[key] for key in last or predecessors[stage.key] if key in unfinished]
            waits = f"waits for {_listed(before)}" if before else _in_queue(status.plan.device, served)
            found[stage.key] = state.progress or waits
    return found


def unserved(status: PipelineStatus, served: Served) -> str:
    """Why no worker will begin a pipeline that has not begun; empty if one will."""
    queue = status.plan.device
    if status.state != State.WAITING or served is None or served.get(queue):
        return ""
    return _in_queue(queue, served)


def _ancestors(plan: Plan) -> dict[str, set[str]]:
    """By each stage's key, the keys of all stages that it needs, directly or not."""
    found: dict[str, set[str]] = {}
    for stage in plan.stages:
        keys = {ref.key for ref in stage.inputs.values()}
        found[stage.key] = keys.union(*(found.get(key, set()) for key in keys))
    return found


def _in_queue(queue: str, served: Served) -> str:
    if served is not None and queue not in served:
        return f"in queue '{queue}', which no worker serves: start one with 'distill worker --queues {queue}'"
    if served is not None and not served[queue]:
        return f"in queue '{queue}', whose workers refuse what this client sends: DISTILL_SIGNING_KEY differs"
    return f"in queue '{queue}'"


def _listed(titles: list[str]) -> str:
    return titles[0] + (f" and {len(titles) - 1} more" if len(titles) > 1 else "")


def facts_of(status: PipelineStatus | UnreadablePipeline, served: Served = None) -> dict[str, Any]:
    """The state of a pipeline for programs, as `distill status --json` prints it."""
    if isinstance(status, UnreadablePipeline):
        facts = {"id": status.id, "state": "unreadable", "why": status.why}
        return facts | {"submitted": None, "stages": [], "warnings": []}
    waits = reasons(status, served)
    stages = []
    for stage in status.plan.stages:
        state = status.states[stage.key]
        done = state.record
        stages.append(
            {
                "title": stage.title,
                "kind": stage.kind,
                "key": stage.key,
                "state": state.state,
                "waits": waits.get(stage.key, ""),
                "progress": done.record.summary if done else state.progress,
                "share": 1.0 if done else state.share,
                "worker": state.worker,
                "outcome": done.outcome if done else None,
                "seconds": done.seconds if done else None,
                "error": state.error,
            }
        )
    warnings = [warning.model_dump() for warning in status.warnings]
    return {
        "id": status.id,
        "state": status.state,
        "submitted": status.submitted,
        "stages": stages,
        "warnings": warnings,
    }
