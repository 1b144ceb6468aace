"""The training loop: dispatch, read the step before, stop on what is not finite, save, evaluate."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils


class NotFinite(ArithmeticError):
    """The loss or the gradient stopped being finite; the message names the step."""


class Done(NamedTuple):
    """How a loop ended. `steps_per_second` leaves out the first call, which compiles,
    and the time spent evaluating and saving."""

    state: Any
    step: int
    interrupted: bool
    steps_per_second: float
    seconds_to_first_step: float


def loop(
    call: Callable[..., Any],
    state: Any,
    frozen: Any,
    key: Any,
    *,
    start: int,
    stop: int,
    per_call: int,
    batches: Callable[[int], Any],
    log: Callable[[int, dict[str, Any]], None],
    log_every: int,
    save: Callable[[int, Any], None],
    save_every: int = 0,
    evaluate: Callable[[int, Any], None] | None = None,
    eval_every: int = 0,
    interrupted: Callable[[int], bool] = lambda step: False,
) -> Done:
    """Run steps `start` to `stop`, `per_call` a dispatch.

    `batches(step)`: what the call that begins at `step` takes. `log(step, means)`: every
    `log_every` steps and at the end, means since the last. `evaluate(step, state)`, then
    `save(step, state)`: every so many steps (0: never) once the metrics of that step are known
    to be finite, so that nothing bad is ever saved; at the end it saves in any case.
    """
    began, first, pending, window = time.monotonic(), None, None, []

    def settle() -> None:
        nonlocal pending
        if pending is not None:
            window.append(_read(*pending))
            pending = None

    step, stopping, paused = start, False, 0.0
    while step < stop and not stopping:
        before = pending
        state, metrics = call(state, frozen, key, batches(step))
        pending = None
        if before is not None:  # read one call late, so that the device never waits for us
            window.append(_read(*before))
        pending = (step, metrics)
        step += per_call
        if first is None:
            settle()
            first = time.monotonic()
        # several processes ask each other, which waits for the device: not at every call
        asking = jax.process_count() == 1 or step % log_every == 0 or step >= stop
        stopping = asking and interrupted(step)
        ending = step >= stop or stopping
        if step % log_every == 0 or ending:
            settle()
            log(step, _means(window))
            window = []
        pause = time.monotonic()
        if evaluate is not None and eval_every and step % eval_every == 0 and not stopping:
            settle()
            evaluate(step, state)
        if ending or (save_every and step % save_every == 0):
            settle()
            save(step, state)
        paused += time.monotonic() - pause
    first = first or time.monotonic()
    elapsed = time.monotonic() - first - paused
    counted = max(step - start - per_call, 0)
    rate = counted / elapsed if counted and elapsed else 0.0
    return Done(state, step, stopping and step < stop, rate, first - began)


def _read(step: int, metrics: Any) -> dict[str, np.ndarray]:
    """Metrics `[…, per_call]` of the call that began at `step`, checked."""
    values = jax.device_get(metrics)
    for name in ("loss", "grad_norm"):
        finite = np.isfinite(values[name])
        if not finite.all():
            at = step + int(np.argwhere(~finite)[:, -1].min())
            raise NotFinite(f"{name} is {values[name][~finite].flat[0]} at step {at}")
    return values


def _means(window: list[dict[str, np.ndarray]]) -> dict[str, Any]:
    """Means over steps; a leading axis of seeds stays, as a list."""
    return {
        name: np.concatenate([w[name] for w in window], axis=-1).mean(axis=-1).tolist()
        for name in window[0]
    }


@contextmanager
def stop_signal() -> Iterator[Callable[[int], bool]]:
    """Turns SIGTERM and SIGINT into `interrupted(step)`, agreed upon by all processes."""
    asked = threading.Event()

    def ask(signum: int, frame: Any) -> None:
        if asked.is_set():  # a second one means it
            raise KeyboardInterrupt
        asked.set()

    def interrupted(step: int) -> bool:
        if jax.process_count() > 1:
            flags = multihost_utils.process_allgather(np.asarray(asked.is_set()))
            return bool(np.any(flags))
        return asked.is_set()

    if threading.current_thread() is not threading.main_thread():
        yield interrupted  # signals can be handled in the main thread only
        return
    old = {s: signal.signal(s, ask) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield interrupted
    finally:
        for s, handler in old.items():
            signal.signal(s, handler)
