"""The monitor: Flower's configuration, its logins, and the events that it takes in."""
