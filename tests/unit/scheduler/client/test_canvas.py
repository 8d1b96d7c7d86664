"""In which order a plan's tasks are sent."""

from __future__ import annotations

import re
from collections.abc import Callable

from kombu.utils.json import dumps

from distill_queue.scheduler.client import canvas
from distill_queue.shared.broker.celery_app import create_app
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec


def test_trainings_are_sent_before_the_evaluation_of_the_teacher(make_spec: Callable[..., PipelineSpec]) -> None:
    plan = Plan.of(make_spec())

    sent = dumps(canvas.build(create_app(Settings(), keeps_results=False), plan, "tiny-0123"))

    titles = re.findall(r'"title": "([^"]+)"', sent)
    assert titles.index("distill small") < titles.index("train small/control") < titles.index("evaluate teacher")


def test_messages_have_the_format_of_their_plan(make_spec: Callable[..., PipelineSpec]) -> None:
    student = {"name": "small", "model": {"name": "mlp", "hidden": [8]}, "transfer": {"only": [1]}}
    plain, new = (Plan.of(make_spec(**changes)) for changes in ({}, {"students": [student]}))

    for plan, stage_format in ((plain, 5), (new, 6)):
        sent = dumps(canvas.build(create_app(Settings(), keeps_results=False), plan, "tiny-0123"))
        assert set(re.findall(r'"format": (\d+)', sent)) == {str(stage_format)}
