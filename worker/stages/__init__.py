"""Stages: plain functions from artifacts to an artifact; they know the store, and neither Celery nor Redis."""
