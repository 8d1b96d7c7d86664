"""Formats of exported students, a file each: what one is called, and what a worker needs for it."""
