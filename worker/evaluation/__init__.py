"""Evaluation: how good a model is on the test set, over its seeds, and what it costs; it knows no training."""
