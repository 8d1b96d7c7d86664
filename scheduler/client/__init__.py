"""The client of a queue, for programs: submits pipelines, follows them and reads what came out."""

from distill_queue.scheduler.client.client import Pipeline, PipelineClient

__all__ = ["Pipeline", "PipelineClient"]
