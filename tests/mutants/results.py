"""Faults in what is left of it: checkpoints, metrics, samples, configs."""

from mutants import Mutant

MUTANTS = [
    # checkpoints
    Mutant(
        "a wrong hash accepted",
        file="fmjax/manifest.py",
        within="fault",
        old="_digest(folder / name) != digest",
        new="len(_digest(folder / name)) != len(digest)",
        test="tests/test_checkpoint.py::test_a_flipped_byte_in_any_file_is_found",
    ),
    Mutant(
        "the oldest checkpoint restored",
        file="fmjax/manifest.py",
        within="choose",
        old="reversed(folders(directory))",
        new="folders(directory)",
        test="tests/test_checkpoint.py::test_every_kind_of_leaf_and_container_returns_bit_for_bit",
    ),
    Mutant(
        "an unfinished checkpoint taken for a whole one",
        file="fmjax/manifest.py",
        within="is_finished",
        old="(folder / MANIFEST).exists()",
        new="folder.exists()",
        test="tests/test_checkpoint.py::test_without_a_manifest_it_is_unfinished",
    ),
    Mutant(
        "a manifest that outlives its files",
        file="fmjax/manifest.py",
        within="remove",
        old="(folder / MANIFEST).unlink(missing_ok=True)",
        new="None",
        test="tests/test_checkpoint.py::test_half_removed_it_is_unfinished",
    ),
    Mutant(
        "the last good checkpoint removed too soon",
        file="fmjax/checkpoint.py",
        within="Store.save",
        old="other == step or not manifest.is_finished(folder)",
        new="True",
        test="tests/test_checkpoint.py::test_a_save_is_asynchronous_and_deletes_only_when_complete",
    ),
    Mutant(
        "the worst checkpoint kept as the best",
        file="fmjax/checkpoint.py",
        within="Store._commit",
        old="self._sign * manifest.metric(f, self._best)",
        new="manifest.metric(f, self._best)",
        test="tests/test_checkpoint.py::test_keeps_the_last_and_the_best",
    ),
    Mutant(
        "weights in the place of their average",
        file="fmjax/checkpoint.py",
        within="_weights",
        old="'params' if ema is None else f'ema/{ema}'",
        new="'params'",
        test="tests/test_checkpoint.py::test_weights_alone_without_the_model",
    ),
    # metrics
    Mutant(
        "precision and recall swapped",
        file="fmjax/metrics/precision_recall.py",
        within="precision_recall",
        old="_radii(real, k), _radii(fake, k)",
        new="_radii(fake, k), _radii(real, k)",
        test="tests/metrics/test_precision_recall.py::test_balls_on_a_line_by_hand",
    ),
    Mutant(
        "a neighbour too far",
        file="fmjax/metrics/precision_recall.py",
        within="_radii",
        old="np.partition(d, k - 1, axis=1)[:, k - 1]",
        new="np.partition(d, k, axis=1)[:, k]",
        test="tests/metrics/test_precision_recall.py::test_balls_on_a_line_by_hand",
    ),
    Mutant(
        "a biased KID",
        file="fmjax/metrics/kid.py",
        within="polynomial_mmd2",
        old="(xx.sum() - np.trace(xx)) / (m * (m - 1))",
        new="xx.mean()",
        test="tests/metrics/test_kid.py::test_by_hand",
    ),
    Mutant(
        "a biased energy distance",
        file="fmjax/metrics/energy.py",
        within="energy_distance_unbiased",
        old="_mean(x, x) * len(x) / (len(x) - 1)",
        new="_mean(x, x)",
        test="tests/metrics/test_energy.py::test_two_point_sets_by_hand",
    ),
    Mutant(
        "covariances added once",
        file="fmjax/metrics/frechet.py",
        within="frechet_gaussian",
        old="2 * cross",
        new="cross",
        test="tests/metrics/test_frechet.py::"
        "test_commuting_covariances_are_compared_by_their_deviations",
    ),
    Mutant(
        "means of parts weighed the wrong way",
        file="fmjax/metrics/_statistics.py",
        within="moments",
        old="apart * (m / (n + m))",
        new="apart * (n / (n + m))",
        test="tests/metrics/test_statistics.py::"
        "test_streamed_moments_are_those_of_all_rows_far_from_zero_too",
    ),
    Mutant(
        "parts of like samples",
        file="fmjax/metrics/inception_score.py",
        within="inception_score.scores",
        old="rng.permutation(len(logits))",
        new="np.arange(len(logits))",
        test="tests/metrics/test_inception_score.py::"
        "test_parts_have_all_classes_whatever_the_order_of_samples",
    ),
    Mutant(
        "a codec's Jacobian upside down",
        file="fmjax/metrics/nll.py",
        within="_log_density.density",
        old="jnp.log(jnp.abs(slope))",
        new="-jnp.log(jnp.abs(slope))",
        test="tests/metrics/test_nll.py::test_another_source_codec_and_divergence",
    ),
    Mutant(
        "real rows drawn with replacement",
        file="fmjax/metrics/_common.py",
        within="reference_places",
        old="rng.permutation(size)[:n]",
        new="rng.integers(size, size=n)",
        test="tests/metrics/test_metrics_common.py::"
        "test_reference_draws_have_no_row_twice_and_follow_the_key",
    ),
    # samples, means, configs
    Mutant(
        "every chunk the same samples",
        file="fmjax/evaluate.py",
        within="make_generate.generate",
        old="jax.random.fold_in(key, i)",
        new="key",
        test="tests/test_evaluate.py::test_fewer_are_a_prefix_and_devices_do_not_matter",
    ),
    Mutant(
        "the last call's mean for that of all",
        file="fmjax/loop.py",
        within="_means",
        old="[w[name] for w in window]",
        new="[w[name] for w in window[-1:]]",
        test="tests/test_loop.py::test_means_saves_and_evaluations_fall_on_their_steps",
    ),
    Mutant(
        "a rate that counts compiling",
        file="fmjax/loop.py",
        within="loop",
        old="step - start - per_call",
        new="step - start",
        test="tests/test_loop.py::"
        "test_the_rate_is_that_of_steps_without_compiling_judging_and_saving",
    ),
    Mutant(
        "arguments of another callable kept",
        file="fmjax/overrides.py",
        within="_rename",
        old="del node[key]",
        new="pass",
        test="tests/test_config.py::"
        "test_another_callable_clears_the_arguments_of_the_old_and_takes_new_ones",
    ),
    Mutant(
        "true taken for a number",
        file="fmjax/overrides.py",
        within="_parse",
        old="type(value) is not kind",
        new="not isinstance(value, kind)",
        test="tests/test_config.py::test_wrong_overrides_are_named_with_their_remedy",
    ),
    Mutant(
        "offers to positional parameters",
        file="fmjax/config.py",
        within="_call",
        old="parameters[k].kind is inspect.Parameter.KEYWORD_ONLY",
        new="True",
        test="tests/test_config.py::"
        "test_offered_arguments_go_to_keyword_only_parameters_that_the_config_leaves_open",
    ),
]
