"""Text: where texts come from, and how they become tokens; imported only where texts are read."""
