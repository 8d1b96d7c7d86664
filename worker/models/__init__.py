"""Models: from a spec and the data's shape to a torch module that returns logits."""
