"""Results: what stages return and what evaluations write down; knows nothing of specs and plans."""
