"""Where stages stand and why they wait, for people and for programs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from shared.status import PipelineStatus

#: Most stages that are named as what another one waits for.
MOST_NAMED = 2


def reasons(status: PipelineStatus, served: Collection[str] | None = None) -> dict[str, str]:
    """Why the stages that have not begun wait, or never will begin, by key.

    Args:
        status: where their pipeline stands.
        served: the queues that workers serve; None where that is not known.

    """
    found = {}
    failed = [stage.title for stage in status.plan.stages if status.states[stage.key].state == "failed"]
    for key, before in status.plan.predecessors.items():
        state = status.states[key]
        if state.state == "blocked":
            found[key] = f"never: {_listed(failed)} failed"
        elif state.state == "waiting":
            unfinished = [stage.title for stage in before.values() if status.states[stage.key].state != "done"]
            found[key] = state.progress or (f"waits for {_listed(unfinished)}" if unfinished else "")
            found[key] = found[key] or _in_queue(status.plan.device, served)
    return found


def _in_queue(queue: str, served: Collection[str] | None) -> str:
    if served is not None and queue not in served:
        return f"in queue '{queue}', which no worker serves: start one with 'distill worker --queues {queue}'"
    return f"in queue '{queue}'"


def _listed(titles: list[str]) -> str:
    more = len(titles) - MOST_NAMED
    return ", ".join(titles[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def facts_of(status: PipelineStatus, served: Collection[str] | None = None) -> dict[str, Any]:
    """Where a pipeline stands, for programs: what `distill status --json` prints."""
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
    return {"id": status.id, "state": status.state, "submitted": status.submitted, "stages": stages}
