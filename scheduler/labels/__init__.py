"""Caches of soft labels, as a client finds, describes and checks them."""
