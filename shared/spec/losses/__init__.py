"""The soft losses: what a spec may say of each, a file a loss; `shared.spec.distillation` lists them."""
