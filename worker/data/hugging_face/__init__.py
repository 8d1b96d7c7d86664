"""Data sets of Hugging Face's library `datasets`: their splits, classes and pictures."""
