"""Sources of data: one file for each built-in data set, and one for the user's own; each has a function `read`.

A new one is a file here, a line in `table.py`, and a line in `shared/catalog.py`, which tells the client of it.
"""
