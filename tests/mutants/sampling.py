"""Faults in how it is sampled and paired: samplers, couplings, likelihoods."""

from mutants import Mutant

MUTANTS = [
    # samplers
    Mutant(
        "an evaluation that is not counted",
        file="fmjax/samplers/ode.py",
        within="ode.solve",
        old="at_start",
        new="0",
        test="tests/samplers/test_ode.py::"
        "test_nfe_is_the_number_of_calls_with_adapted_steps_and_rejections",
    ),
    Mutant(
        "noise without √dt",
        file="fmjax/samplers/sde.py",
        within="_Noise.contr",
        old="jnp.sqrt(dt)",
        new="dt",
        test="tests/samplers/test_sde.py::test_coarse_samples_have_the_moments_of_their_scheme",
    ),
    Mutant(
        "one noise for all steps of an SDE",
        file="fmjax/samplers/sde.py",
        within="_Noise.contr",
        old="jax.random.fold_in(self.key, step)",
        new="self.key",
        test="tests/samplers/test_sde.py::test_randomness_is_the_keys",
    ),
    Mutant(
        "a drift without its half",
        file="fmjax/samplers/sde.py",
        within="drift_of.strength",
        old="2 * path.sigma(t)",
        new="path.sigma(t)",
        test="tests/samplers/test_sde.py::"
        "test_euler_maruyama_has_weak_order_one_for_every_diffusion",
    ),
    Mutant(
        "a score that does not turn with time",
        file="fmjax/samplers/sde.py",
        within="drift_of.drift",
        old="direction * std**2",
        new="std**2",
        test="tests/samplers/test_sde.py::"
        "test_a_net_with_its_own_score_takes_any_diffusion_and_runs_both_ways",
    ),
    Mutant(
        "fresh noise without its root",
        file="fmjax/samplers/refresh.py",
        within="refresh.advance",
        old="eta * std * jnp.sqrt(share)",
        new="eta * std * share",
        test="tests/samplers/test_refresh.py::"
        "test_the_error_in_variance_is_of_order_one_over_steps",
    ),
    Mutant(
        "noise added where there is noise already",
        file="fmjax/samplers/_common.py",
        within="renoise",
        old="s_low**2 - (keep * s_high) ** 2",
        new="s_low**2",
        test="tests/samplers/test_restart.py::test_renoising_has_the_law_of_the_earlier_time",
    ),
    Mutant(
        "a jump back one step late",
        file="fmjax/samplers/restart.py",
        within="restart",
        old="jumps[high : high + len(again) : high - low] = True",
        new="jumps[high + 1 : high + 1 + len(again) : high - low] = True",
        test="tests/samplers/test_restart.py::"
        "test_noise_is_added_where_the_walk_goes_back_and_nowhere_else",
    ),
    Mutant(
        "Langevin noise too small",
        file="fmjax/samplers/predictor_corrector.py",
        within="predictor_corrector.correct",
        old="2 * snr * sigma * std",
        new="jnp.sqrt(2) * snr * sigma * std",
        test="tests/samplers/test_predictor_corrector.py::test_corrections_mend_a_coarse_predictor",
    ),
    Mutant(
        "a last step that looks ahead",
        file="fmjax/samplers/ctmc.py",
        within="ctmc",
        old="of(times[-2], x)",
        new="of(times[-1], x)",
        test="tests/samplers/test_token_samplers.py::"
        "test_samples_have_the_law_of_the_chains_steps[uniform]",
    ),
    Mutant(
        "an order in place of ranks",
        file="fmjax/samplers/confidence.py",
        within="confidence.advance",
        old="jnp.argsort(jnp.argsort(-sure, axis=1), axis=1)",
        new="jnp.argsort(-sure, axis=1)",
        test="tests/samplers/test_token_samplers.py::"
        "test_of_several_positions_the_surest_are_replaced_first",
    ),
    Mutant(
        "restart noise of the unit source",
        file="fmjax/samplers/restart.py",
        within="restart.advance",
        old="fresh * std",
        new="fresh",
        test="tests/samplers/test_restart.py::test_renoising_has_the_law_of_the_earlier_time",
    ),
    Mutant(
        "repainting noise of the unit source",
        file="fmjax/samplers/inpaint.py",
        within="inpaint.set_out",
        old="fresh * std",
        new="fresh",
        test="tests/samplers/test_inpaint.py::"
        "test_going_back_to_the_start_takes_noise_of_the_source",
    ),
    Mutant(
        "correctors that do nothing without churn",
        file="fmjax/samplers/ctmc.py",
        within="ctmc.advance",
        old="max(churn, 1.0)",
        new="churn",
        test="tests/samplers/test_token_samplers.py::"
        "test_correctors_draw_their_share_anew_without_churn",
    ),
    Mutant(
        "one key for what is inserted and what is changed",
        file="fmjax/samplers/edit_ctmc.py",
        within="edit_ctmc.advance",
        old="tokens.categorical(key_new, change, high=high)",
        new="tokens.categorical(key_token, change, high=high)",
        test="tests/samplers/test_keys.py::test_no_key_is_used_twice[edit_ctmc]",
    ),
    Mutant(
        "a nucleus one token short",
        file="fmjax/samplers/_tokens.py",
        within="nucleus",
        old="jnp.cumsum(jnp.exp(order), axis=-1) - jnp.exp(order)",
        new="jnp.cumsum(jnp.exp(order), axis=-1)",
        test="tests/samplers/test_token_samplers.py::test_temperature_and_nucleus",
    ),
    # couplings
    Mutant(
        "rows and columns of a plan swapped",
        file="fmjax/couplings/exact.py",
        within="exact",
        old="cost(x1, x0)",
        new="cost(x0, x1)",
        test="tests/couplings/test_exact.py::test_its_cost_is_that_of_pots_plan",
    ),
    Mutant(
        "pairs drawn along the other axis",
        file="fmjax/couplings/sinkhorn.py",
        within="sinkhorn",
        old="jax.random.categorical(key, plan, axis=1)",
        new="jax.random.categorical(key, plan, axis=0)",
        test="tests/couplings/test_sinkhorn.py::"
        "test_pairs_are_drawn_from_it_and_each_data_row_is_used_once",
    ),
    Mutant(
        "the wrong marginal let go",
        file="fmjax/couplings/unbalanced.py",
        within="unbalanced",
        old="(tau_x1, tau_x0)",
        new="(tau_x0, tau_x1)",
        test="tests/couplings/test_unbalanced.py::"
        "test_pairs_are_drawn_from_the_whole_plan[source kept]",
    ),
    Mutant(
        "one key for all blocks",
        file="fmjax/couplings/blocks.py",
        within="blocks",
        old="jax.random.split(key, count)",
        new="jax.numpy.stack([key] * count)",
        test="tests/couplings/test_blocks.py::"
        "test_each_block_gets_its_condition_and_a_key_of_its_own",
    ),
    Mutant(
        "rows counted within a class",
        file="fmjax/couplings/conditional.py",
        within="classes",
        old="(rows[pairs.x0], rows[pairs.x1])",
        new="(pairs.x0, pairs.x1)",
        test="tests/couplings/test_conditional.py::"
        "test_on_the_host_each_class_has_its_own_optimal_plan",
    ),
    Mutant(
        "a condition's weight squared",
        file="fmjax/couplings/conditional.py",
        within="continuous",
        old="c * xp.sqrt(w)",
        new="c * w",
        test="tests/couplings/test_conditional.py::test_it_is_the_plan_of_both_distances_added",
    ),
    Mutant(
        "potentials with the wrong sign",
        file="fmjax/couplings/semidiscrete.py",
        within="assign",
        old="_common.squared_distances_jax(x0, points) - potentials[None]",
        new="_common.squared_distances_jax(x0, points) + potentials[None]",
        test="tests/couplings/test_semidiscrete.py::test_in_one_dimension_the_cells_are_quantiles",
    ),
    # likelihood
    Mutant(
        "a divergence's sign",
        file="fmjax/likelihood.py",
        within="log_likelihood",
        old="log_p0(noise) + divergences",
        new="log_p0(noise) - divergences",
        test="tests/test_likelihood.py::"
        "test_both_directions_and_any_shape_by_the_matrix_exponential",
    ),
    Mutant(
        "one probe for all rows",
        file="fmjax/likelihood.py",
        within="_probes",
        old="law(key, (x.shape[0], count, *x.shape[1:]), dtype)",
        new="jnp.repeat(law(key, (1, count, *x.shape[1:]), dtype), x.shape[0], axis=0)",
        test="tests/test_likelihood.py::"
        "test_random_divergences_are_unbiased_with_probes_of_their_own",
    ),
    Mutant(
        "a trace counted twice",
        file="fmjax/likelihood.py",
        within="hutchpp.apply",
        old="(flat - jnp.einsum('bkq,bqd->bkd', along_basis, basis)).reshape(rest.shape)",
        new="flat.reshape(rest.shape)",
        test="tests/test_likelihood.py::test_hutchpp_is_exact_up_to_its_rank_and_not_beyond",
    ),
    Mutant(
        "draws added and not averaged",
        file="fmjax/likelihood.py",
        within="dequantised",
        old="jax.nn.logsumexp(each, axis=0) - math.log(draws)",
        new="jax.nn.logsumexp(each, axis=0)",
        test="tests/test_likelihood.py::test_uniform_levels_take_log2_of_their_number_in_bits",
    ),
    Mutant(
        "one key for noise and probes",
        file="fmjax/likelihood.py",
        within="dequantised.one",
        old="jax.random.split(key)",
        new="(key, key)",
        test="tests/test_likelihood.py::test_noise_within_a_cell_and_probes_have_keys_of_their_own",
    ),
    Mutant(
        "nats called bits",
        file="fmjax/likelihood.py",
        within="bits_per_dim",
        old="math.prod(shape) * LN2",
        new="math.prod(shape)",
        test="tests/test_likelihood.py::test_uniform_levels_take_log2_of_their_number_in_bits",
    ),
]
