"""A user's own data, models and loss: what `examples/custom/text.yaml` names."""
