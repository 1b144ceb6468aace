"""Texts of any length in rows of one width, and the edits that lead from one to another.

A row `[n]` is a text and then its `end`, which fills what is left: so data sets have short texts
(`codec.end`), and so samplers return them. In aligned rows (z0, z1) `[k]` the same `end`, wherever
it is, is the gap ε: where only z1 has a token it is to be inserted, where only z0 has one deleted,
where they have two substituted. Each place jumps from z0 to z1 once, on its own, at the rate
κ'/(1 − κ), κ = α(t); x_t is z_t without its gaps. What does not fit a row is dropped.

A net gives `Edits`, the logarithms of the rates of every edit of x_t in units of κ'/(1 − κ). The
exact ones are, of each edit, the expected number of places that wait for it,

    u(edit) = E[#{j: z_t^j ≠ z1^j, and z1^j in the place of z_t^j is this edit of x_t} | x_t].

Havasi et al. 2025 (2506.09018), whose nets have the hazard in their rates. Here it stands outside,
as for `tokens.mixture`: numbers of edits are bounded, rates are not.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from fmjax.types import PRNGKey

Row = Int[Array, "b n"]
Aligned = tuple[Int[Array, "b k"], Int[Array, "b k"]]
Align = Callable[..., Aligned]  # `(key, x0, x1, *, end) -> (z0, z1)`


class Edits(NamedTuple):
    """Logarithms of rates at each place of a row; of what cannot be, −1e9.

    insert:     a token before it; at the place of the first end, after the whole text
    delete:     it; only of the text's own places
    substitute: it by a token

    `end` is no token that is inserted or substituted.
    """

    insert: Float[Array, "b n v"]
    delete: Float[Array, "b n"]
    substitute: Float[Array, "b n v"]


class Waiting(NamedTuple):
    """Of each aligned place: the edit that it waits for, as a column of `flat`, and if it does."""

    edit: Int[Array, "b k"]
    waits: Bool[Array, "b k"]


def text(x: Row, *, end: int) -> Bool[Array, "b n"]:
    """Where a compact row has its text; one place more, where it has room, can be inserted at."""
    return x != end


def anchors(x: Row, *, end: int) -> Bool[Array, "b n"]:
    """The places that can be inserted before: those of the text and that of the first end."""
    return jnp.arange(x.shape[1])[None] <= text(x, end=end).sum(axis=1, keepdims=True)


def compact(z: Int[Array, "b k"], *, end: int, width: int) -> Int[Array, "b {width}"]:
    """The tokens of each row in their order, then `end`; of more than `width` the first."""
    here = z != end
    to = jnp.where(here, jnp.cumsum(here, axis=1) - 1, width)
    # a scatter: on CPUs a stable sort of so many short rows takes several times as long
    return jnp.full((z.shape[0], width), end, z.dtype).at[_rows(z), to].set(z, mode="drop")


def _rows(z: Int[Array, "b k"]) -> Int[Array, "b k"]:
    return jnp.broadcast_to(jnp.arange(z.shape[0])[:, None], z.shape)


def edited(x: Row, before: Row, instead: Row, *, end: int) -> Row:
    """The rows with `before` inserted ahead of each place, `instead` in it; `end`: nothing."""
    both = jnp.stack([before, instead], axis=-1).reshape(x.shape[0], -1)
    return compact(both, end=end, width=x.shape[1])


def flat(edits: Edits) -> Float[Array, "b m"]:
    """All edits of a row in a line, m = n (2 v + 1)."""
    places = (edits.insert, edits.substitute, edits.delete[..., None])
    return jnp.concatenate(places, axis=-1).reshape(edits.delete.shape[0], -1)


def waiting(
    z: Int[Array, "b k"], z1: Int[Array, "b k"], *, end: int, vocabulary: int, width: int
) -> Waiting:
    """The edits that are left to do at z_t; none of those beyond the row."""
    here = z != end
    place = jnp.cumsum(here, axis=1) - here  # of x_t: the tokens before it
    kind = jnp.where(here, jnp.where(z1 == end, 2 * vocabulary, vocabulary + z1), z1)
    waits = (z != z1) & (place < width)
    return Waiting(jnp.where(waits, place * (2 * vocabulary + 1) + kind, 0), waits)


def left(key: PRNGKey, x0: Row, x1: Row, *, end: int) -> Aligned:
    """The i-th token with the i-th: (z0, z1) = (x0, x1). With x0 empty all are inserted."""
    del key, end
    return x0, x1


def shortest(key: PRNGKey, x0: Row, x1: Row, *, end: int) -> Aligned:
    """An alignment of the fewest edits, `[b, 2 n]`, of those the one that substitutes last.

    By dynamic programming, O(n²) numbers for each row (Levenshtein 1966): what x0 and x1 have in
    common stays. x_t fits a row where both texts together do.
    """
    del key
    return jax.vmap(lambda a, b: _traced(a, b, _distances(a, b, end), end))(x0, x1)


def _costs(a: Int[Array, "*n"], end: int) -> Int[Array, "*n"]:
    # to delete or to insert an end is no edit, so whole rows are aligned as if they were texts
    return (a != end).astype(jnp.int32)


def _distances(a: Int[Array, " n"], b: Int[Array, " n"], end: int) -> Int[Array, "n1 n1"]:
    """d[i, j]: the fewest edits from the first i of a to the first j of b."""
    inserted = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(_costs(b, end))])

    def on(above: Array, token: Array) -> tuple[Array, Array]:
        substituted = above[:-1] + (token != b)
        best = above + _costs(token, end)
        best = best.at[1:].min(substituted)
        # the insertions of a row all at once: d[j] = min over k ≤ j of best[k] + those between
        row = inserted + jax.lax.cummin(best - inserted)
        return row, row

    _, rows = jax.lax.scan(on, inserted, a)
    return jnp.concatenate([inserted[None], rows])


def _traced(a: Int[Array, " n"], b: Int[Array, " n"], d: Int[Array, "n1 n1"], end: int) -> Any:
    """A way back through the distances, from both ends to both starts."""
    n = len(a)

    def back(at: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        i, j = at
        token, wanted = a[jnp.maximum(i - 1, 0)], b[jnp.maximum(j - 1, 0)]
        deletes = (i > 0) & (d[i, j] == d[i - 1, j] + _costs(token, end))
        inserts = (j > 0) & (d[i, j] == d[i, j - 1] + _costs(wanted, end))
        both = (i > 0) & (j > 0) & (d[i, j] == d[i - 1, j - 1] + (token != wanted))
        up, over = both | deletes, both | (inserts & ~deletes)
        pair = jnp.where(up, token, end), jnp.where(over, wanted, end)
        return (i - up, j - over), pair

    start = jnp.int32(n), jnp.int32(n)
    _, (z0, z1) = jax.lax.scan(back, start, None, length=2 * n, reverse=True)
    return z0.astype(a.dtype), z1.astype(b.dtype)
