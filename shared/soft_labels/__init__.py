"""Soft labels: how they are encoded, cached, sealed and exchanged; usable without the rest of the project."""

from distill_queue.shared.soft_labels.cache import SoftLabels

__all__ = ["SoftLabels"]
