"""Evaluation: what a model is worth on the test set, over its seeds, and what it costs; it knows no training."""
