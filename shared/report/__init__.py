"""The report of a pipeline: facts, figures and sentences as one page; knows ledger and store."""
