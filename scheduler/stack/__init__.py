"""The stack: a server, workers and Flower as child processes of this machine."""
