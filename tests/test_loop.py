import dataclasses
import os
import signal
import types

import jax.numpy as jnp
import numpy as np
import pytest

from fmjax import loop


def run(losses, *, start=0, per_call=2, **options):
    """A loop over known losses; what was logged, saved and evaluated."""
    events = []
    losses = np.asarray(losses, np.float32)

    def call(state, frozen, key, batch):
        values = jnp.asarray(losses[..., batch : batch + per_call])
        return state + per_call, {"loss": values, "grad_norm": jnp.abs(values)}

    defaults = {
        "log_every": 4,
        "save_every": 4,
        "save": lambda step, state: events.append(("save", step, state)),
    }
    done = loop.loop(
        call, start, None, None, start=start, stop=losses.shape[-1], per_call=per_call,
        batches=lambda step: step,
        log=lambda step, means: events.append(("log", step, means["loss"])),
        evaluate=lambda step, state: events.append(("evaluate", step, state)),
        **{**defaults, **options},
    )  # fmt: skip
    return done, events


def test_means_saves_and_evaluations_fall_on_their_steps():
    done, events = run(np.arange(10.0), eval_every=6)
    assert events == [
        ("log", 4, 1.5), ("save", 4, 4), ("evaluate", 6, 6), ("log", 8, 5.5), ("save", 8, 8),
        ("log", 10, 8.5), ("save", 10, 10),
    ]  # fmt: skip
    assert (done.state, done.step, done.interrupted) == (10, 10, False)


def test_resuming_goes_on_from_the_step_it_was_given():
    _, events = run(np.arange(8.0), start=4)
    assert events == [("log", 8, 5.5), ("save", 8, 8)]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("at", [0, 3, 4, 7, 9])
def test_a_loss_that_is_not_finite_stops_at_its_step_before_anything_bad_is_saved(bad, at):
    losses = np.arange(10.0)
    losses[at] = bad
    saved = []
    with pytest.raises(loop.NotFinite, match=f"loss is {bad} at step {at}$"):
        run(losses, save=lambda step, state: saved.append(step))
    assert all(step <= at for step in saved)


def test_an_interruption_saves_at_once_and_says_so():
    done, events = run(np.arange(100.0), interrupted=lambda step: step == 6)
    assert (done.step, done.interrupted) == (6, True)
    assert events[-2:] == [("log", 6, 4.5), ("save", 6, 6)]


def test_an_interruption_after_the_last_step_is_none():
    done, _ = run(np.arange(4.0), interrupted=lambda step: True, per_call=4)
    assert not done.interrupted


def test_metrics_of_a_call_are_read_after_the_next_is_dispatched():
    order = []

    @dataclasses.dataclass
    class Loss:
        """It says when it comes to the host."""

        step: int

        def __array__(self, dtype=None, copy=None):
            order.append(("read", self.step))
            return np.ones(1, np.float32)

    def batches(step):
        order.append(("dispatch", step))
        return step

    def call(state, frozen, key, batch):
        return state, {"loss": Loss(batch), "grad_norm": jnp.ones(1)}

    nothing = lambda *_: None  # noqa: E731
    loop.loop(
        call, 0, None, None, start=0, stop=4, per_call=1, batches=batches, log=nothing,
        log_every=4, save=nothing,
    )  # fmt: skip
    assert order[2:] == [
        ("dispatch", 1), ("dispatch", 2), ("read", 1), ("dispatch", 3), ("read", 2), ("read", 3),
    ]  # fmt: skip


def test_the_rate_is_that_of_steps_without_compiling_judging_and_saving(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(loop, "time", types.SimpleNamespace(monotonic=lambda: now[0]))

    def takes(seconds):
        now[0] += seconds

    def call(state, frozen, key, batch):
        takes(100.0 if batch == 0 else 4.0)
        return state, {"loss": jnp.ones(2), "grad_norm": jnp.ones(2)}

    done = loop.loop(
        call, 0, None, None, start=0, stop=10, per_call=2, batches=lambda step: step,
        log=lambda step, means: None, log_every=4, save=lambda step, state: takes(7.0),
        save_every=4, evaluate=lambda step, state: takes(50.0), eval_every=6,
    )  # fmt: skip
    assert done.seconds_to_first_step == 100
    assert done.steps_per_second == 8 / 16


def test_signals_are_caught_inside_and_handed_back_after():
    before = signal.getsignal(signal.SIGTERM)
    with loop.stop_signal() as interrupted:
        assert not interrupted(0)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupted(1)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_seeds_stay_apart_in_means():
    _, events = run([[1.0, 3.0, 5.0, 7.0], [10.0, 30.0, 50.0, 70.0]])
    assert events == [("log", 4, [4.0, 40.0]), ("save", 4, 4)]
