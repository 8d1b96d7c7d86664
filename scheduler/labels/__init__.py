"""Caches of soft labels: how a client finds, describes and checks them."""
