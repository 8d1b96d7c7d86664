"""Data: sets as tensors, in batches and views, and what is to be said about them."""
