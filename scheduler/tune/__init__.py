"""Tuning: searches a student's best values with pipelines on the queue; only here is Optuna known."""
