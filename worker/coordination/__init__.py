"""Coordination: what workers agree on through the broker, such as leases, attempts, stops and rescues."""
