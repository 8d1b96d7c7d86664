"""The machine that a stage runs on: device, memory, libraries, the network, and the user's own code."""
