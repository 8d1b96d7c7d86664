"""Maintenance: lists and verifies the store, removes what no pipeline needs, examines settings, broker and workers."""
