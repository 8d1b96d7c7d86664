"""Stages: plain functions from artifacts to an artifact, one file a kind; they know the store, not Celery or Redis."""
