"""The plan: the stages that a spec becomes, each with its recipe and its key; knows the spec and no store."""
