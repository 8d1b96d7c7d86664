"""The `distill` commands: they parse, call the client and print; each imports the rest only when it is called."""
