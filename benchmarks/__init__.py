"""Benchmarks: figures for the README, as ratios within one run."""
