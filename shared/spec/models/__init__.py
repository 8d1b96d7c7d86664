"""The families of models: what a spec may say of each, a file a family; `shared.spec.model` lists them."""
