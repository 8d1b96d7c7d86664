"""The spec: what a user may write, field by field, with the line of each mistake; knows files and soft labels."""

from distill_queue.shared.spec.pipeline import PipelineSpec

__all__ = ["PipelineSpec"]
