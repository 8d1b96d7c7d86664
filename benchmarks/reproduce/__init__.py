"""`python -m benchmarks.reproduce [SECTION…]`: trains what the pages report of, and writes their figures and tables.

A section is a file here with its `SECTION`: what it runs, and the tables that it makes of what came out. The figures go
to `docs/results/<section>.json`, and from there into the pages, between markers (`tables.py`).
"""
