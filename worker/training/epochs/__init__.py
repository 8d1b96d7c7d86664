"""Epochs: which samples an epoch shows, in which order, and what it comes to on these and on held-out samples."""
