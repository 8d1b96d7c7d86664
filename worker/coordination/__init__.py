"""What workers agree on through the broker, as leases and attempts, and how one worker's processes reach each other."""
