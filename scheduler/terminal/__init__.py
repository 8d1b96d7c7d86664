"""The terminal: everything that commands print passes through here, as text and never as commands to the terminal."""
