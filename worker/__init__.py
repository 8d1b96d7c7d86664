"""The workers of distill-queue: Celery tasks, and the plain learning code that they call."""
