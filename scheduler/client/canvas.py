"""Canvas: from a plan to a Celery chain of named, immutable signatures."""

from __future__ import annotations

from typing import Any

from celery import Celery, chain, group
from celery.canvas import Signature

from distill_queue.shared.catalog import PRIORITIES
from distill_queue.shared.plan.course import Branch, Step
from distill_queue.shared.plan.description import details
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.recipes import PrepareData, SoftLabelling, Training
from distill_queue.shared.plan.stage import HARD_LIMIT_SECONDS, Bundle


def build(app: Celery, plan: Plan, pipeline: str) -> Signature:
    """The chain: data, teachers, soft labels, each generation's branches side by side, then what needs all."""

    def task(bundle: Bundle) -> Signature:
        return _signature(app, plan, pipeline, bundle)

    def whole(step: Step) -> Signature:
        branches = [
            chain(*map(task, branch), app=app) if len(branch) > 1 else task(branch[0]) for branch in _ordered(step)
        ]
        return branches[0] if step.alone else group(branches, app=app)

    return chain(*map(whole, plan.course), app=app)


def _ordered(step: Step) -> list[Branch]:
    """A step's branches, trainings first: a worker that finds none of these left evaluates the teacher meanwhile."""
    return sorted(step.branches, key=lambda branch: not isinstance(branch[0][0].recipe, Training))


def describe(plan: Plan, pipeline: str, bundle: Bundle) -> str:
    """What a task does in one line, of which `scheduler.monitor.flower_settings` makes the columns of Flower's page."""
    stage, others = bundle[0], len(bundle) - 1
    titles = f"{stage.title} and {others} more" if others else stage.title
    return " · ".join((pipeline, titles, *details(stage, _dataset(plan)), f"key {stage.ref.short_key}"))


def _dataset(plan: Plan) -> str:
    recipe = plan.trunk[0].recipe
    return recipe.dataset.called if isinstance(recipe, PrepareData) else ""


def _signature(app: Celery, plan: Plan, pipeline: str, bundle: Bundle) -> Signature:
    return app.signature(
        f"distill.{bundle[0].kind}",
        kwargs=_kwargs(plan, pipeline, bundle),
        immutable=True,
        options=_options(plan, pipeline, bundle),
    )


def _kwargs(plan: Plan, pipeline: str, bundle: Bundle) -> dict[str, Any]:
    stages = [stage.model_dump(mode="json") | {"format": plan.format} for stage in bundle]
    kwargs: dict[str, Any] = {"pipeline": pipeline, "stages": stages}
    return kwargs | ({"shards": plan.shards} if isinstance(bundle[0].recipe, SoftLabelling) else {})


def _options(plan: Plan, pipeline: str, bundle: Bundle) -> dict[str, Any]:
    options: dict[str, Any] = {
        "queue": plan.device,
        "priority": PRIORITIES[plan.priority],
        "argsrepr": "",
        "kwargsrepr": describe(plan, pipeline, bundle),
    }
    if limit := sum(plan.time_limits.get(stage.kind, 0.0) for stage in bundle):
        options |= {"soft_time_limit": limit, "time_limit": limit + HARD_LIMIT_SECONDS}
    return options
