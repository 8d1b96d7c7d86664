"""A loss, a model and a data source, which `pyproject.toml` gives short names."""
