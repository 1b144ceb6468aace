"""The contracts between the parts: nets, models, batches, data. Nothing here computes."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float, Int, Key, Num, PyTree

PRNGKey = Key[Array, ""]
Params = PyTree
Metrics = dict[str, Array]
# A time is a scalar or one value an example; t = 0 is noise, t = 1 is data.
Time = Float[Array, ""] | Float[Array, " b"] | float | int


@runtime_checkable
class Net(Protocol):
    """A velocity field: `net(t, x, cond) -> v`, `v` shaped like `x` (diffrax's `f(t, y, args)`).

    Of tokens `[b, *n]` it is the log-masses `[b, *n, vocabulary]` of x1 at each position, which
    sum to 1 unless they were guided: see `fmjax.tokens`.

    `key` given: stochastic (dropout on); absent: deterministic.
    """

    def __call__(self, t: Time, x: Any, cond: Any = None, *, key: Any = None, **kw: Any) -> Any:
        """The velocity at (t, x) given `cond`."""


class Nets(NamedTuple):
    """What an objective sees of the networks.

    `online` closes over the differentiated parameters, `stopped` over the same with their
    gradient stopped, `ema` over a slow copy, `teacher` over frozen others.
    A model of several networks gives the same NamedTuple of nets in each field.
    """

    online: Any
    stopped: Any
    ema: Any
    teacher: Any = None


class Batch(NamedTuple):
    """Examples with a leading axis `b`. `x0=None`: the objective draws it from the source."""

    x1: Any
    cond: Any = None
    x0: Any = None
    weight: Any = None


class Model(NamedTuple):
    """`init(key, batch) -> params` and `apply(params, t, x, cond=None, *, key=None, **kw)`."""

    init: Callable[..., Params]
    apply: Callable[..., Any]


class Point(NamedTuple):
    """A point on a bridge: the sample `xt`, its conditional velocity `ut`, and what else it has.

    Of tokens, whole numbers, `ut` is the x1 that the position jumps to.
    """

    xt: Num[Array, " b *d"]
    ut: Num[Array, " b *d"]
    aux: Any = None


class Rows(NamedTuple):
    """Who is paired with whom: row `x0[i]` of the noise with row `x1[i]` of the data."""

    x0: Int[Array | np.ndarray, " b"]
    x1: Int[Array | np.ndarray, " b"]


class Info(NamedTuple):
    """What a sampler did. `nfe`: network evaluations of one example (per example if they differ).

    `ts` `[k]` and `xs` `[k, b, *d]` are the save points, where any were asked for.
    """

    nfe: Int[Array, ""] | Int[Array, " b"]
    ts: Float[Array, " k"] | None = None
    xs: Any = None


class Data(NamedTuple):
    """A data set. x1 is in data space (before the codec); x0, where it has one, in model space.

    spec:   one example of `take`, without its batch axis, as a `Batch` of `jax.ShapeDtypeStruct`
    splits: rows of each split (0: unlimited); a run needs "train" and "test"
    take:   `(split, n, start=0) -> Batch` of host arrays for evaluators: `n` rows of a fixed order
            (None: all that follow) from row `start` on, read without those before them.
            Small sets may leave out `start`, and endless ones have to where their rows depend
            on `n`: these are then taken at once
    batch:  `(split, step) -> Batch`, this process's rows of the global batch of that step
    sample: `(key, n) -> Batch`, instead of `batch`, for distributions that are functions of a key
    null:   one condition's absent value
    read:   a condition of one example, read from a word (raises ValueError that lists the choices)
    names:  the names of the classes, where the condition is a class
    encoded: the x1 of `batch` are in model space already, such as cached latents
    contents: `split -> str`, a digest of a split's rows, or of the files that they are read from:
            what is computed of the rows once is kept under it

    A condition may be a dict of parts, each of them classes `[b]` or values `[b, k]`; `null` then
    is one of their absent values, and `names` a dict, of those parts that are classes.
    """

    spec: Batch
    splits: Mapping[str, int]
    take: Callable[..., Batch]
    batch: Callable[[str, int], Batch] | None = None
    sample: Callable[[PRNGKey, int], Batch] | None = None
    null: Any = None
    read: Callable[[str], Any] | None = None
    names: tuple[str, ...] | Mapping[str, tuple[str, ...]] = ()
    encoded: bool = False
    contents: Callable[[str], str] | None = None
