"""The client of distill-queue: turns a spec into a chain of tasks, follows it, and shows what came out."""
