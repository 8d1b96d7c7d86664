"""The report of a pipeline: facts, and sections that show them, as one page; knows ledger and store."""
