"""Exports: a folder of a trained student that people use without distill-queue; it knows the client."""
