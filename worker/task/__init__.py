"""The task loop: from a message to its stages' records in the ledger, by way of leases and attempts; knows Celery."""
