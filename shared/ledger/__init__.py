"""The ledger: what the broker keeps of pipelines, workers, queues and logs; knows plans and results."""
