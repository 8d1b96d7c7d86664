"""A task: from a message to a stage's result in the ledger, with its attempts, progress and helpers; knows Celery."""
