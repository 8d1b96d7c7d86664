"""How workers coordinate through the broker, by leases and attempts, and one worker's processes through memory."""
