"""The worker's main process: admits messages, renews deliveries, and watches the child that does the work."""
