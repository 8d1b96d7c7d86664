"""Watching: shows how far the stages of a pipeline are, as a tree or line by line."""
