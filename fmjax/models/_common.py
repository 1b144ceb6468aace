"""What the networks share: times, conditions, dense layers, and the pair (init, apply)."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Num

from fmjax import types

# of a condition that is a dict: those of its parts that are classes
Classes = int | Mapping[str, int] | None


def dense(x: Float[Array, "*n d"], features: int, **options: Any) -> Float[Array, "*n {features}"]:
    """x W + b on the last axis, all others flattened into one; call it inside a compact module.

    XLA on the CPU differentiates `[b, n, d] @ [d, k]` 1.4 to 2 times slower than the same product
    as `[b n, d] @ [d, k]`; on accelerators the reshape costs nothing. `options` are `nn.Dense`'s.
    """
    options = {"dot_general": _product, **options}
    flat = nn.Dense(features, **options)(x.reshape(-1, x.shape[-1]))
    return flat.reshape(*x.shape[:-1], features)


def _product(x: Any, kernel: Any, dimensions: Any, **options: Any) -> Array:
    """`lax.dot_general`, whose kernel has a gradient computed narrow side first on CPUs.

    Of 4096 rows, 1024 → 256: 16 ms on a core as [256, rows] [rows, 1024], 26 ms the other way.
    """
    if kernel.shape[0] > kernel.shape[1]:
        # platforms branch on the kernel alone: a branch with x would keep copies of it
        kernel = jax.lax.platform_dependent(kernel, cpu=_transposed_in_memory, default=_unchanged)
    return jax.lax.dot_general(x, kernel, dimensions, **options)


def _transposed_in_memory(kernel: Any) -> Array:
    # without the barrier, both transpositions would vanish, in the gradient, too
    return jax.lax.optimization_barrier(kernel.T).T


def _unchanged(kernel: Any) -> Array:
    return kernel


def broadcast_time(t: Any, x: Num[Array, " b *d"]) -> Float[Array, " b"]:
    """One time for each example, from a number, a scalar array or `[b]`; at least float32.

    Raises ValueError on any other shape.
    """
    t = jnp.asarray(t, jnp.promote_types(x.dtype, jnp.float32))
    if t.shape not in ((), x.shape[:1]):
        raise ValueError(
            f"t has shape {t.shape}; expected () or {x.shape[:1]}, one time for each example of x "
            f"{x.shape}. Pass a number, or drop the other axes of t."
        )
    return jnp.broadcast_to(t, x.shape[:1])


def time_features(
    t: Float[Array, " b"], n: int, *, slowest: float = 1.0, fastest: float = 100.0
) -> Float[Array, " b n"]:
    """[cos ωₖ t, sin ωₖ t], k = 1 … n/2, ω spaced geometrically from `slowest` to `fastest`.

    Angular frequencies for t in [0, 1]: the fastest resolves about 2π/100 of the interval.
    Diffusion codes reach 1000, which makes ∂v/∂t rough for adaptive solvers and for losses that
    differentiate in time (Lu & Song 2024, arXiv 2410.11081, section 4.1).
    """
    if n < 2 or n % 2:
        raise ValueError(
            f"{n} time features: expected an even number of at least 2, "
            "for each frequency takes a cosine and a sine."
        )
    frequencies = np.geomspace(slowest, fastest, n // 2)
    angles = t[:, None] * jnp.asarray(frequencies, t.dtype)[None]
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def check_labels(cond: Any, num_classes: int | None, name: str = "condition") -> bool:
    """True for classes, integers `[b]`; False for values, floats `[b, k]`; else ValueError.

    `name`: that of its parameters, as `parts` has them.
    """
    shape, dtype, called = cond.shape, cond.dtype, _called(name)
    if jnp.issubdtype(dtype, jnp.integer) and len(shape) == 1:
        if num_classes is None:
            part = name.removeprefix("condition_")
            wanted = "num_classes=…" if name == "condition" else f"num_classes=dict({part}=…)"
            raise ValueError(
                f"{called}, a condition of classes ({dtype}{list(shape)}), needs num_classes: "
                f"pass {wanted} to the model, or give the condition as floats [b, k]."
            )
        return True
    if jnp.issubdtype(dtype, jnp.floating) and len(shape) == 2:
        return False
    raise ValueError(
        f"{called} is {dtype}{list(shape)}; expected classes, integers [b], or values, floats "
        "[b, k]. Reshape or cast the condition of the batch."
    )


def parts(cond: Any, num_classes: Classes = None) -> dict[str, tuple[Any, int | None]]:
    """{name of its parameters: (condition, number of classes)}: one, or each part of a dict.

    A condition that is no dict is called "condition", a part of one "condition_" and its name.
    """
    if not isinstance(cond, Mapping):
        if isinstance(num_classes, Mapping):
            raise ValueError(
                f"num_classes={dict(num_classes)} is for a condition of parts, and this one is "
                "an array: give a number, or a condition that is a dict of arrays."
            )
        return {"condition": (cond, num_classes)}
    if not cond:
        raise ValueError("cond is a dict without parts: expected arrays, or None for no condition.")
    if num_classes is not None and not isinstance(num_classes, Mapping):
        raise ValueError(
            f"num_classes={num_classes} for a condition of the parts {sorted(cond)}: expected a "
            "number for each part that is a class, such as dict(group=9, style=2)."
        )
    unknown = sorted(set(num_classes or {}) - set(cond))
    if unknown:
        raise ValueError(f"num_classes names {unknown}; the condition's parts are {sorted(cond)}.")
    return {
        f"condition_{part}": (cond[part], (num_classes or {}).get(part)) for part in sorted(cond)
    }


def condition(
    cond: Any, width: int, num_classes: Classes, dtype: Any = None
) -> Float[Array, " b {width}"]:
    """A row of a table for a class, a linear map for values; call it inside a compact module.

    The table has num_classes + 1 rows: the last is the absent class, `null = num_classes`.
    Values have no bias, so that zeros are their natural absent value.
    Of a dict of conditions: the sum over its parts, each with an embedding of its own;
    `num_classes` then is a dict, too, of those parts that are classes.
    """
    rows = []
    for name, (part, classes) in parts(cond, num_classes).items():
        if check_labels(part, classes, name):
            init = nn.initializers.normal(0.02)
            table = nn.Embed(classes + 1, width, dtype=dtype, embedding_init=init, name=name)
            rows.append(table(part))
        else:
            rows.append(nn.Dense(width, use_bias=False, dtype=dtype, name=name)(part))
    return functools.reduce(jnp.add, rows)


def embed(
    t: Float[Array, " b"],
    cond: Any,
    width: int,
    features: int,
    num_classes: Classes,
    dtype: Any = None,
    *,
    frequencies: tuple[float | int, float | int] = (1.0, 100.0),
    kernel_init: Any = nn.initializers.lecun_normal(),
) -> Float[Array, " b {width}"]:
    """c = W silu(W features(t)) + condition; call it inside a compact module.

    `frequencies`: the slowest and the fastest of the features; `kernel_init`: of both W.
    """
    slowest, fastest = frequencies
    options = {"dtype": dtype, "kernel_init": kernel_init}
    h = time_features(t, features, slowest=slowest, fastest=fastest)
    h = nn.Dense(width, name="time_in", **options)(h)
    c = nn.Dense(width, name="time_out", **options)(jax.nn.silu(h))
    return c if cond is None else c + condition(cond, width, num_classes, dtype)


def check_condition(params: types.Params, cond: Any) -> None:
    """Raise ValueError unless `cond` is of the kind that `params` were initialised with."""
    had, got = {}, {}
    for name, leaf in params.items():
        if name == "condition" or name.startswith("condition_"):
            had[name] = "classes" if "embedding" in leaf else "values"
    if cond is not None:
        given = parts(cond)
        for name, (part, _) in given.items():
            got[name] = "classes" if check_labels(part, 0, name) else "values"
    if had != got:
        raise ValueError(
            f"the model was initialised with {_told(had)} and is called with {_told(got)}. Pass "
            "what the batch given to init had (the data's null where a condition, or a part of "
            "one, is absent), or initialise again."
        )
    for name in (name for name, kind in had.items() if kind == "values"):
        k, width = params[name]["kernel"].shape[0], given[name][0].shape[-1]
        if k != width:
            raise ValueError(
                f"{_called(name)} has {width} values an example; the model was initialised with "
                f"{k}. Pass [b, {k}], or initialise again."
            )


def _called(name: str) -> str:
    return "cond" if name == "condition" else f"cond[{name.removeprefix('condition_')!r}]"


def _told(kinds: Mapping[str, str]) -> str:
    """In words: {"condition": "classes"} is "classes"; parts are listed with their kinds."""
    if set(kinds) <= {"condition"}:
        return kinds.get("condition", "no condition")
    named = (f"{name.removeprefix('condition_')} ({kind})" for name, kind in sorted(kinds.items()))
    return f"the parts {', '.join(named)}"


def selu(x: Float[Array, " *d"]) -> Float[Array, " *d"]:
    """λ x where x > 0, λ α (eˣ − 1) elsewhere: `jax.nn.selu` with exp instead of expm1.

    Differs by 3e-7 at most. expm1 is slow on CPUs: a training step of a 3 × 64 network on 512
    rows took 15 % longer with it. Klambauer et al. 2017, arXiv 1706.02515.
    """
    alpha, scale = 1.6732632423543772, 1.0507009873554805
    positive = x > 0
    return scale * jnp.where(positive, x, alpha * jnp.exp(jnp.where(positive, 0, x)) - alpha)


def modulate(x: Array, shift: Array, scale: Array) -> Array:
    """x (1 + scale) + shift, of equal ranks."""
    return x * (1 + scale) + shift


def attend(
    q: Float[Array, "b n h d"],
    k: Float[Array, "b m h d"],
    v: Float[Array, "b m h d"],
    *,
    causal: bool = False,
    seen: Bool[Array, "b m"] | None = None,
) -> Float[Array, "b n h d"]:
    """softmax(q kᵀ / √d) v for each head, the softmax in float32 at least.

    `causal`: nothing of later places. `seen`: nothing of places where it is false, one at least
    of each row being true.

    Written out, not a fused kernel, so that forward-mode derivatives (`jax.jvp`) pass through it.
    Heads are moved ahead of tokens first: on CPUs the gradient takes 20 ms for 33 without.
    """
    q, k, v = (a.transpose(0, 2, 1, 3) for a in (q, k, v))
    precise = jnp.promote_types(q.dtype, jnp.float32)
    logits = jnp.einsum("bhnd,bhmd->bhnm", q, k, preferred_element_type=precise)
    logits = logits * q.shape[-1] ** -0.5
    if causal:
        logits = jnp.where(np.tri(q.shape[2], k.shape[2], dtype=bool)[None, None], logits, -jnp.inf)
    if seen is not None:
        logits = jnp.where(seen[:, None, None, :], logits, -jnp.inf)
    weights = jax.nn.softmax(logits, axis=-1)
    out = jnp.einsum("bhnm,bhmd->bhnd", weights.astype(v.dtype), v)
    return out.transpose(0, 2, 1, 3)


class Head(nn.Module):
    """W (norm(h) (1 + scale(c)) + shift(c)) + b, starting at zero; `c` of the rank of `h`."""

    features: int
    dtype: Any = None
    norm: Callable[..., Any] = functools.partial(nn.LayerNorm, use_scale=False, use_bias=False)

    @nn.compact
    def __call__(self, h: Float[Array, " b *n d"], c: Float[Array, " b *m d"]) -> Array:
        """Normalise, modulate, project."""
        zeros, width = nn.initializers.zeros_init(), h.shape[-1]
        options = {"dtype": self.dtype, "kernel_init": zeros}
        modulation = dense(jax.nn.silu(c), 2 * width, name="modulation", **options)
        shift, scale = jnp.split(modulation, 2, axis=-1)
        h = modulate(self.norm(dtype=self.dtype, name="norm")(h), shift, scale)
        return dense(h, self.features, name="projection", **options)


def check_policy(remat: bool, policy: Any) -> None:
    """ValueError for a policy of what to keep where nothing is computed anew."""
    if policy is not None and not remat:
        raise ValueError(
            f"policy={policy} with remat=False: the policy says what rematerialised blocks keep, "
            "and none are. Pass remat=True as well, or leave the policy out."
        )


def example(batch: types.Batch) -> tuple[Array, Any]:
    """One row of zeros shaped as the batch: initial parameters depend on its shapes alone."""

    def zeros(a: Any) -> Array:
        return jnp.zeros((1, *a.shape[1:]), jax.dtypes.canonicalize_dtype(a.dtype))

    return zeros(batch.x1), jax.tree.map(zeros, batch.cond)


def model(module: Callable[[bool], nn.Module]) -> types.Model:
    """The pair (init, apply) of a Linen network, `module(deterministic)(t, x, cond, **kw)`.

    The parameters are float32, in plain nested dicts; the outputs have the dtype of `x`, and of
    whole numbers float32.
    """

    def init(key: types.PRNGKey, batch: types.Batch) -> types.Params:
        x, cond = example(batch)
        return module(True).init({"params": key}, broadcast_time(0.0, x), x, cond)["params"]

    def apply(
        params: types.Params,
        t: Any,
        x: Num[Array, " b *d"],
        cond: Any = None,
        *,
        key: Any = None,
        **kw: Any,
    ) -> Any:
        check_condition(params, cond)
        rngs = {} if key is None else {"dropout": key}
        net = module(key is None)
        out = net.apply({"params": params}, broadcast_time(t, x), x, cond, rngs=rngs, **kw)
        dtype = x.dtype if jnp.issubdtype(x.dtype, jnp.inexact) else jnp.float32
        return jax.tree.map(lambda a: a.astype(dtype), out)

    return types.Model(init, apply)
