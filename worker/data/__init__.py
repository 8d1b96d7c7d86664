"""Data: sets from their sources, packed, as tensors, in batches and views, and checked; it knows no model."""
