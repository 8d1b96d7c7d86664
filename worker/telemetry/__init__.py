"""Telemetry: a worker's metrics and logs, and how Prometheus and pipelines' logs get them."""
