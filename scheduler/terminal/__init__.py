"""The terminal: all that is printed passes through here, as text and never as commands to it."""
