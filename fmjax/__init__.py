"""Flow matching in JAX: pure functions from a laptop to a pod."""
