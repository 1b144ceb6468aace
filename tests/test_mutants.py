"""Deliberate faults, each of which must turn a test red: a check of the tests themselves."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# name: (file, what is there, what the fault makes of it, the test that must notice)
MUTANTS = {
    "velocity's sign flipped": (
        "fmjax/paths.py",
        "like(d_alpha, x1) * x1 + like(d_sigma, x1) * x0",
        "-like(d_alpha, x1) * x1 - like(d_sigma, x1) * x0",
        "tests/test_paths.py::test_velocity_is_the_time_derivative_of_the_point",
    ),
    "α and σ swapped": (
        "fmjax/paths.py",
        "like(alpha, x1) * x1 + like(sigma, x1) * x0",
        "like(sigma, x1) * x1 + like(alpha, x1) * x0",
        "tests/test_paths.py::test_ends_are_exactly_noise_and_data",
    ),
    "a key reused": (
        "fmjax/losses/flow_matching.py",
        "t = sample_t(key_t,",
        "t = sample_t(key_x0,",
        "tests/losses/test_flow_matching.py::test_time_noise_dropping_and_dropout_have_keys_of_their_own",
    ),
    "the same noise in every step": (
        "fmjax/train.py",
        "jax.random.fold_in(key, state.step)",
        "jax.random.fold_in(key, 0)",
        "tests/test_train.py::test_every_step_and_micro_batch_has_noise_of_its_own",
    ),
    "pmean dropped": (
        "fmjax/train.py",
        "total = jax.lax.pmean(total, axis_name)",
        "pass",
        "tests/test_shard.py::test_pmap_has_the_gradient_of_jit_for_a_deterministic_objective",
    ),
    "EMA from zeros": (
        "fmjax/train.py",
        "jax.tree.map(jnp.copy, params)",
        "jax.tree.map(jnp.zeros_like, params)",
        "tests/test_train.py::test_emas_start_as_copies_and_follow_with_a_warm_up",
    ),
    "label dropout per batch": (
        "fmjax/losses/_common.py",
        "jax.random.bernoulli(key, drop, (n,))",
        "jnp.broadcast_to(jax.random.bernoulli(key, drop), (n,))",
        "tests/losses/test_flow_matching.py::test_conditions_are_dropped_one_coin_an_example",
    ),
    "x0 not permuted with its condition": (
        "fmjax/data/in_memory.py",
        "return jax.tree.map(lambda a: a[rows], batch)",
        "return jax.tree.map(lambda a: a[rows], batch)._replace("
        "x0=None if batch.x0 is None else batch.x0[: len(rows)])",
        "tests/data/test_in_memory.py",
    ),
    "a bound without the rate given x1": (
        "fmjax/tokens.py",
        "0.0, 1 + at(log_m, x1)",
        "0.0, at(log_m, x1)",
        "tests/losses/test_token_losses.py::test_the_weighted_cross_entropy_of_masks_is_the_bound",
    ),
    "positions that jump too soon": (
        "fmjax/tokens.py",
        "left = ((1 - kappa(s, x)) / (1 - kappa(t, x))) ** total",
        "left = (1 - kappa(s, x)) ** total",
        "tests/samplers/test_token_samplers.py::"
        "test_the_chain_ends_in_the_law_of_the_data_and_its_error_halves_with_the_steps",
    ),
    "a teacher ahead of its chain": (
        "fmjax/losses/self_distillation.py",
        "t = at.t + i * small",
        "t = at.t + (i + 1) * small",
        "tests/losses/test_token_losses.py::test_a_student_learns_what_its_teacher_says_later",
    ),
    "micro-batches weighed equally": (
        "fmjax/train.py",
        "return sums[\"loss\"], (sums, jnp.sum(weight))",
        "return sums[\"loss\"] / jnp.sum(weight), (sums, jnp.ones(()))",
        "tests/test_train.py::test_gradient_is_that_of_the_weighted_mean",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_a_fault_is_noticed(name, tmp_path):
    file, good, bad, test = MUTANTS[name]
    for folder in ("fmjax", "tests"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    source = (tmp_path / file).read_text()
    assert source.count(good) == 1, f"{file} no longer holds this line once: {good}"
    (tmp_path / file).write_text(source.replace(good, bad))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", test]
    # in a process of its own, which neither xdist nor coverage follows
    quiet = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=quiet)
    assert done.returncode == 1, f"the fault went unnoticed:\n{done.stdout}\n{done.stderr}"
    assert "failed" in done.stdout
