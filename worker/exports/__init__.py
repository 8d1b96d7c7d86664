"""Exports: students as files for other runtimes, an exporter for each format, and the gate that each file must pass."""
