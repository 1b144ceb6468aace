"""Couplings: who is paired with whom, `(key, x0, x1, cond) -> Rows`, one a file."""
