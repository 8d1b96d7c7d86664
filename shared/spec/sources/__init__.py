"""Where data come from: what a spec may say of each source, a file a source; `shared.spec.dataset` lists them."""
