"""Images as patches and back: pixels of a square as channels."""

from jaxtyping import Array, Float


def patchify(x: Float[Array, "b h w c"], patch: int) -> Float[Array, "b n k"]:
    """Images as n = h/p · w/p tokens, row by row, of k = p · p · c numbers.

    Raises ValueError unless h and w are multiples of `patch`.
    """
    b, h, w, c = x.shape
    if h % patch or w % patch:
        raise ValueError(
            f"images of {h}x{w} do not divide into patches of {patch}x{patch}; expected height and "
            f"width to be multiples of {patch}. Choose another patch, or pad or crop the images."
        )
    x = x.reshape(b, h // patch, patch, w // patch, patch, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, -1, patch * patch * c)


def unpatchify(
    tokens: Float[Array, "b n k"], patch: int, shape: tuple[int, ...]
) -> Float[Array, "b h w c"]:
    """The inverse of `patchify`, to images of `shape`."""
    b, h, w, c = shape
    x = tokens.reshape(b, h // patch, w // patch, patch, patch, c)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(shape)
