"""The muscle: Celery tasks and the plain learning code that they call."""
