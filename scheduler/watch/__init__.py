"""Watching: where the stages of a pipeline stand, as a tree or line by line."""
