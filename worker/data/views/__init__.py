"""Views of samples: each operation in a file of its own, a pure function of (seed, view, sample).

The room knows the spec's augmentation and tensors, and nothing of data sets, soft labels or training.
"""
