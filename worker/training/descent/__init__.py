"""Descent: how gradients become a step: accumulated, scaled back, clipped, taken by an optimiser, and averaged over.

The room knows tensors and what a spec says of a training, and nothing of data, goals or the loop.
"""
