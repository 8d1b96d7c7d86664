"""The `distill` commands: they parse, call the client and print; each imports what it needs only when it is called."""
