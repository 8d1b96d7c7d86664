"""The machine: device, memory, libraries, the network and the user's own code, as a stage meets them."""
