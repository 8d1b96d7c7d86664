"""The contract between the scheduler and the workers; nothing here imports torch."""
