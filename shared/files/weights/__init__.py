"""Weights in every form that people have: read by names and shapes without torch, and written as safetensors.

The room knows `shared.files` and no spec. `reading.py` has the one function that others call.
"""
