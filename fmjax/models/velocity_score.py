"""Two networks, one for the velocity and one for the score."""

from typing import Any, NamedTuple


class VelocityScore(NamedTuple):
    """A model of two (or a net of two), which is called as its velocity.

    So whatever takes a velocity net takes this one; `samplers.sde` finds the score as `.score`.
    The two share nothing. `config.predict` must stay the velocity, as it would convert both.
    """

    velocity: Any
    score: Any

    def __call__(self, t: Any, x: Any, cond: Any = None, **kw: Any) -> Any:
        """The velocity at (t, x) given `cond`; of nets only."""
        return self.velocity(t, x, cond, **kw)
