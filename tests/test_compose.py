"""Guidance by each part of a condition, and between conditions, against numbers by hand."""

import closed_forms
import diffrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fmjax import guidance
from fmjax.models.velocity_score import VelocityScore
from fmjax.samplers.ode import ode

# four components: the group tells left from right, the style up from down
MEANS = np.array([[-2.0, -1.0], [-2.0, 1.0], [2.0, -1.0], [2.0, 1.0]])
DATA = closed_forms.mixture([0.1, 0.2, 0.3, 0.4], MEANS, 0.5)
NULL = {"group": np.int32(2), "style": np.int32(2)}
COND = {"group": jnp.array([0, 1, 1, 2]), "style": jnp.array([1, 0, 2, 1])}
T = jnp.array([0.1, 0.4, 0.6, 0.9])
X = jax.random.normal(jax.random.key(0), (4, 2))


@jax.jit
def exact(t, x, cond):
    """The velocity of the mixture of those components that have the group and the style."""

    def one(t, y, group, style):
        fits = jnp.array([[g, s] for g in (0, 1) for s in (0, 1)])
        kept = ((group == 2) | (fits[:, 0] == group)) & ((style == 2) | (fits[:, 1] == style))
        chosen = DATA._replace(weights=jnp.where(kept, DATA.weights, 0.0))
        return closed_forms.velocity(lambda t: t, lambda t: 1 - t, t, y[None], chosen)[0]

    return jax.vmap(one)(jnp.broadcast_to(t, x.shape[:1]), x, cond["group"], cond["style"])


def net(t, x, cond=None, *, key=None):
    return exact(jnp.asarray(t, jnp.float32), x, cond)


def only(*parts):
    absent = {part: jnp.full(4, 2) for part in COND}
    return net(T, X, absent | {part: COND[part] for part in parts})


def close(a, b):
    np.testing.assert_allclose(a, b, atol=5e-6)


def test_the_velocities_of_single_parts_are_added_to_the_one_without_any():
    composed = guidance.compose(net, null=NULL, scales={"group": 2.0, "style": 1.5})
    group, style, none = only("group"), only("style"), only()
    close(composed(T, X, COND), none + 2.0 * (group - none) + 1.5 * (style - none))
    assert np.abs(group - none).max() > 0.1 < np.abs(style - none).max()


def test_at_the_start_it_is_numbers_by_hand():
    # v = E[x1 | condition] − x0 at t = 0; means: 0.1·(−2, −1) + 0.2·(−2, 1) + …
    composed = guidance.compose(net, null=NULL, scales={"group": 3.0, "style": 2.0})
    none = np.array([[0.8, 0.2]])
    groups = np.array([[-2, 1 / 3], [2, 1 / 7], [2, 1 / 7], [0.8, 0.2]])
    styles = np.array([[2 / 3, 1], [1, -1], [0.8, 0.2], [2 / 3, 1]])
    close(composed(0.0, X, COND), none + 3 * (groups - none) + 2 * (styles - none) - X)


def test_one_part_at_scale_one_is_the_net_of_that_part():
    composed = guidance.compose(net, null=NULL, scales={"group": 1.0, "style": 0.0})
    close(composed(T, X, COND), only("group"))
    close(guidance.compose(net, null=NULL, scales={"group": 0, "style": 0})(T, X, COND), only())


def test_parts_without_a_scale_stay():
    alone = guidance.compose(net, null=NULL, scales={"style": 3.0})
    group, both = only("group"), only("group", "style")
    close(alone(T, X, COND), group + 3 * (both - group))


def test_nested_parts_refine_those_before_them():
    scales = {"group": 2.0, "style": 1.5}
    nested = guidance.compose(net, null=NULL, scales=scales, nested=("style", "group"))
    none, style, both = only(), only("style"), only("style", "group")
    close(nested(T, X, COND), none + 1.5 * (style - none) + 2 * (both - style))
    ones = {"group": 1.0, "style": 1.0}
    close(
        guidance.compose(net, null=NULL, scales=ones, nested=("group", "style"))(T, X, COND), both
    )


def test_scales_per_example_and_of_a_part_alone_are_classifier_free_guidance():
    scale = jnp.array([0.0, 1.0, 2.0, 5.0])
    composed = guidance.compose(net, null=NULL, scales={"group": scale, "style": 0.0})
    none, group = only(), only("group")
    close(composed(T, X, COND), none + scale[:, None] * (group - none))
    single = guidance.compose(
        net, null=NULL, scales={"group": scale, "style": scale}, nested=("group", "style")
    )
    plain = guidance.classifier_free(net, null=NULL, scale=scale)
    close(single(T, X, COND), plain(T, X, COND))


def test_a_call_of_k_and_one_times_the_rows_only_within_the_interval():
    calls = []

    def counted(t, x, cond=None, *, key=None):
        jax.debug.callback(lambda: calls.append(x.shape[0]))
        return net(t, x, cond)

    scales = {"group": 2.0, "style": 1.5}
    limited = guidance.compose(counted, null=NULL, scales=scales, interval=(0.3, 0.7))
    everywhere = guidance.compose(net, null=NULL, scales=scales)
    for t, rows in [(0.29, 4), (0.3, 12), (0.71, 4)]:
        calls.clear()
        out = jax.jit(limited)(jnp.asarray(t), X, COND)
        jax.effects_barrier()
        assert calls == [rows]
        close(out, (everywhere if rows == 12 else net)(t, X, COND))
    mixed = limited(T, X, COND)
    close(mixed[1:3], everywhere(T, X, COND)[1:3])
    close(mixed[::3], net(T, X, COND)[::3])


def test_keywords_keys_and_pairs_of_nets_go_along():
    def linear(t, x, cond=None, *, key=None, r=None):
        shift = cond["a"] + jnp.where(cond["b"][:, None] == 7, 10.0, 0.0)
        return shift + x * jnp.reshape(r - t, (-1, 1)) + jax.random.normal(key)

    cond = {"a": jnp.ones((4, 2)), "b": jnp.arange(4)}
    null, key = {"a": np.zeros(2), "b": 7}, jax.random.key(1)
    pair = guidance.compose(VelocityScore(linear, linear), null=null, scales={"a": 2.0, "b": 3.0})
    expected = 10 + 2 * 1 + 3 * (0 - 10) + X + jax.random.normal(key)
    for own in pair:
        close(own(T, X, cond, key=key, r=T + 1), expected)


def test_mistakes_are_named():
    for scales, options in [({}, {}), ({"group": 1.0}, {"nested": ("style",)})]:
        with pytest.raises(ValueError, match="expected a scale for each of at least"):
            guidance.compose(net, null=NULL, scales=scales, **options)
    with pytest.raises(ValueError, match=r"scales for the parts \['colour'\]; the condition has"):
        guidance.compose(net, null=NULL, scales={"colour": 1.0})(T, X, COND)
    with pytest.raises(ValueError, match="no parts"):
        guidance.compose(net, null=NULL, scales={"group": 1.0})(T, X, COND["group"])
    with pytest.raises(ValueError, match="is not one condition of cond"):
        guidance.compose(net, null={"group": 2}, scales={"group": 1.0})(T, X, COND)
    with pytest.raises(ValueError, match="0 ≤ low < high"):
        guidance.compose(net, null=NULL, scales={"group": 1.0}, interval=(0.5, 0.2))


def test_blending_is_the_line_between_two_conditions():
    amount = jnp.array([0.0, 0.25, 1.0, 0.5])
    other = {"style": np.int32(0)}
    blended = guidance.blend(net, other=other, amount=amount)(T, X, COND)
    a, b = net(T, X, COND), net(T, X, COND | {"style": jnp.zeros(4, int)})
    close(blended, (1 - amount)[:, None] * a + amount[:, None] * b)
    rows = {"style": jnp.zeros(4, int)}
    close(guidance.blend(net, other=rows, amount=1.0)(T, X, COND), b)
    assert guidance.blend(net, other=other, amount=0) is net
    whole = lambda t, x, cond=None, *, key=None: cond[:, None] * x  # noqa: E731
    pair = guidance.blend(VelocityScore(whole, whole), other=3.0, amount=0.5)
    close(pair.score(T, X, jnp.ones(4)), 2 * X)


def test_blending_goes_with_guidance_inside_a_sampler():
    guided = guidance.compose(net, null=NULL, scales={"group": 2.0, "style": 1.0})
    blended = guidance.blend(guided, other={"style": 0}, amount=0.5)
    x1, info = ode(blended, None, X, COND, solver=diffrax.Euler(), steps=2)
    half = X + 0.25 * (guided(0.0, X, COND) + guided(0.0, X, COND | {"style": jnp.zeros(4, int)}))
    end = COND | {"style": jnp.zeros(4, int)}
    np.testing.assert_allclose(
        x1, half + 0.25 * (guided(0.5, half, COND) + guided(0.5, half, end)), atol=1e-5
    )
    assert info.nfe == 2


@pytest.mark.parametrize(
    ("other", "cond", "words"),
    [
        ({"colour": 1}, COND, r"other has \['colour'\]"),
        ({"style": jnp.zeros(3, int)}, COND, r"other has shape \(3,\): expected that of one"),
        (1, COND, "no way from cond"),
        ({"style": 1}, None, "no way from cond"),
    ],
)
def test_other_conditions_have_to_fit(other, cond, words):
    with pytest.raises(ValueError, match=words):
        guidance.blend(net, other=other, amount=0.5)(T, X, cond)


def test_embeddings_are_blended_on_a_line_or_a_circle():
    a, b = jnp.array([[2.0, 0.0], [1.0, 0.0]]), jnp.array([[0.0, 2.0], [1.0, 0.0]])
    close(guidance.blend_values(a, b, 0.25), [[1.5, 0.5], [1.0, 0.0]])
    third = guidance.blend_values(a, b, jnp.array([1 / 3, 0.5]), spherical=True)
    close(third, [[np.sqrt(3), 1.0], [1.0, 0.0]])
