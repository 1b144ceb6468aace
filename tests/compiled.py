"""Which programs are compiled, as JAX reports it."""

import contextlib

import jax


@contextlib.contextmanager
def programs():
    """Their names, a list that grows within the block."""
    names = []

    def listen(event, seconds, *, fun_name="", **rest):
        if event == "/jax/core/compile/backend_compile_duration":
            names.append(fun_name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield names
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
