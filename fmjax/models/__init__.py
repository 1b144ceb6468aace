"""Networks: one a file, returning `Model(init, apply)`."""
