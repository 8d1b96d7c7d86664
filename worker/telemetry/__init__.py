"""Telemetry: what a worker counts and logs, and how that leaves it."""
