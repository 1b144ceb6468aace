"""Data sets: factories of `types.Data`."""
