"""The machine that a stage runs on: device, memory, recorded steps, libraries, the network, and the user's own code."""
