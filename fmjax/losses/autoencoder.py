"""The variational autoencoder: reconstruct through a latent that says little more than a normal."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fmjax.models import autoencoder as models
from fmjax.types import Batch, Metrics, Nets, PRNGKey


def autoencoder(
    nets: Nets,
    key: PRNGKey,
    batch: Batch,
    *,
    error: Callable[[Float[Array, " b *d"]], Float[Array, " b *d"]] = jnp.square,
    beta: float | int = 1.0,
) -> tuple[Float[Array, " b"], Metrics]:
    """mean error(D(z) − x) + β KL(q(z|x) ‖ N(0, I))/d, z ~ q(·|x) of the encoder, d entries in x.

    `nets.*`: an encoder and a decoder (`models.autoencoder`). `error`: `jax.numpy:square` or
    `jax.numpy:abs`. With squares, β = 2 s² is the ELBO of a normal decoder of variance s², divided
    by d and up to factors that no parameter changes. For a codec take β small, so that
    reconstruction is sharp and the latents only keep a bounded scale. `kl_nats` is undivided.
    No perceptual or adversarial term. Kingma & Welling 2013 (1312.6114); β: Higgins et al. 2017.
    """
    if not hasattr(nets.online, "encoder") or not hasattr(nets.online, "decoder"):
        raise ValueError(
            "the model has no encoder and decoder: set config.model = "
            'dict(name="fmjax.models.autoencoder:autoencoder", …)'
        )
    x = batch.x1
    key_encoder, key_noise, key_decoder = jax.random.split(key, 3)
    mean, std = models.posterior(nets.online.encoder(1.0, x, key=key_encoder))
    z = mean + std * jax.random.normal(key_noise, mean.shape, mean.dtype)
    again = nets.online.decoder(1.0, z, key=key_decoder)
    if again.shape != x.shape:
        raise ValueError(f"the decoder returned shape {again.shape}, x has {x.shape}")
    rows = x.shape[0]
    found = error((again - x).astype(jnp.float32)).reshape(rows, -1).mean(axis=1)
    kl = models.kl_nats(mean, std)
    return found + beta * kl * (rows / x.size), {"reconstruction": found, "kl_nats": kl}
