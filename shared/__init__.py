"""The contract between distill-queue's scheduler and its workers; nothing here imports torch."""
