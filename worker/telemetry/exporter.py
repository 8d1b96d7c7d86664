"""Exporter: a worker's main process serves its metrics to Prometheus."""

from __future__ import annotations

import os
import threading
from itertools import product
from typing import Any

from celery import Celery, bootsteps
from celery.utils.log import get_logger
from celery.worker import state
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    start_http_server,
)

from distill_queue.shared.catalog import QUEUES, STAGE_KINDS
from distill_queue.shared.ledger.workers import installed_versions
from distill_queue.shared.settings import Settings
from distill_queue.worker.telemetry.metrics import CAUSES, METRICS, OUTCOMES, SECONDS, Count, Metric, Metrics, Name

#: Values of labels, so that each series exists before its first event: a series that begins with 1 has no increase.
VALUES = {"kind": STAGE_KINDS, "outcome": OUTCOMES, "cause": CAUSES, "queue": QUEUES}

logger = get_logger(__name__)


def serve_metrics(app: Celery, settings: Settings, metrics: Metrics) -> None:
    """Add to the application's workers a step that serves their metrics."""

    class ServeMetrics(bootsteps.StartStopStep):  # type: ignore[misc]
        """Runs as soon as the pool is there, whether or not the broker is."""

        requires = ("celery.worker.components:Pool",)

        def include_if(self, _parent: Any) -> bool:
            return metrics.on

        def start(self, parent: Any) -> None:
            Exporter(parent.hostname).start(settings, metrics)

    app.steps["worker"].add(ServeMetrics)


class Exporter:
    """The metrics of one worker as Prometheus reads them."""

    def __init__(self, worker: str) -> None:
        disable_created_metrics()  # Each would be one more series that no dashboard reads.
        self.registry = CollectorRegistry()
        self._metrics = {name: self._create(name, metric) for name, metric in METRICS.items()}
        running = Gauge("distill_tasks_running", "Tasks that the worker does now.", registry=self.registry)
        running.set_function(lambda: len(state.active_requests))
        versions = {name.replace("-", "_"): version for name, version in installed_versions().items()}
        Info("distill_build", "The worker and its versions.", registry=self.registry).info(
            {"worker": worker} | versions
        )

    def start(self, settings: Settings, metrics: Metrics) -> None:
        """Count and serve from threads; a worker whose port is taken goes on without serving metrics."""
        threading.Thread(target=self._count, args=(metrics,), name="metrics", daemon=True).start()
        address, port = settings.metrics_address, settings.metrics_port
        try:
            server, _ = start_http_server(port, address, self.registry)
        except (OSError, UnicodeError) as error:  # `UnicodeError`: the address is no host's name.
            why = getattr(error, "strerror", None) or error
            logger.warning("no metrics at %s:%d: %s: set DISTILL_METRICS_PORT", address, port, why)
            return
        # A child that outlives this process for a moment must not keep the port from the next one.
        os.register_at_fork(after_in_child=server.socket.close)
        logger.info("metrics at http://%s:%d/metrics", address, port)

    def add(self, count: Count) -> None:
        """Add one count to its metric."""
        metric = self._metrics[count.name]
        child = metric.labels(*count.labels) if count.labels else metric
        match child:
            case Counter():
                child.inc(count.value)
            case Gauge():
                child.set(count.value)
            case Histogram():
                child.observe(count.value)

    def _count(self, metrics: Metrics) -> None:
        for count in metrics.counts():
            self.add(count)

    def _create(self, name: Name, metric: Metric) -> Counter | Gauge | Histogram:
        named = (f"distill_{name}", metric.about, metric.labels)
        match metric.type:
            case "counter":
                counter = Counter(*named, registry=self.registry)
                for values in product(*(VALUES[label] for label in metric.labels)) if metric.labels else ():
                    counter.labels(*values)
                return counter
            case "gauge":
                return Gauge(*named, registry=self.registry)
            case "histogram":
                return Histogram(*named, registry=self.registry, buckets=SECONDS)
