"""distill-queue: pipelines of knowledge distillation, queued, watched in Flower and scaled across machines."""
