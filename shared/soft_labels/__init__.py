"""Soft labels: how they are encoded, cached, sealed and exchanged; they know files, and neither a plan nor a store."""

from distill_queue.shared.soft_labels.cache import SoftLabels

__all__ = ["SoftLabels"]
