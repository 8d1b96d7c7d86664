"""Training: the loop, for one model or a stack of them, and what it is made of."""
