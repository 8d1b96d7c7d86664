"""Maintenance: what lies in the store, whether it is whole, what nobody needs, and what is wrong around it."""
