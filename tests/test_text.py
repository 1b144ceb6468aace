import json

import jax
import numpy as np
import pytest
import tokenizers

from fmjax import text
from fmjax.config import ConfigError
from fmjax.settings import check_codec, record_codec

TEXTS = ["the cat sat on the mat", "the cats sat", "a naïve café — über alles"] * 4


def spec(n):
    return jax.ShapeDtypeStruct((n,), np.int32)


def corpus(split):
    return {"train": TEXTS, "test": ["xyz"]}[split]


@pytest.fixture
def pairs(tmp_path):
    return text.bpe(corpus=corpus, vocabulary=290, data_dir=tmp_path)


def test_characters_are_places_in_the_alphabet():
    codec = text.characters()
    assert (codec.vocabulary, codec.end) == (27, None)
    ids = codec.tokens("a zebra")
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(ids, [1, 0, 26, 5, 2, 18, 1])
    assert codec.write(ids) == "a zebra"
    assert codec.encode(ids) is codec.decode(ids) is ids
    assert codec.tokens("").shape == (0,)
    every = "zaé\ud800𝄞 x"  # any order, any plane, halves of pairs
    codec = text.characters(alphabet=every)
    np.testing.assert_array_equal(codec.tokens(every), np.arange(7))
    assert codec.write(np.arange(7)) == every


def test_the_end_is_the_last_token_and_stops_what_is_written():
    codec = text.characters(alphabet="ab", end=True)
    assert (codec.vocabulary, codec.end) == (3, 2)
    assert codec.write([0, 1, 2, 0, 2]) == "ab"
    assert codec.write([0, 3, 2]) == "a_"
    assert codec.write([2]) == codec.write(np.zeros(0, np.int32)) == ""
    assert text.characters(alphabet="ab").write([0, 1, 2, 2]) == "ab__"


def test_what_is_read_is_known_but_for_blanks_and_what_follows():
    codec = text.characters(alphabet="abc")
    x, known = codec.read("a_c", spec(5))
    assert (x.dtype, known.dtype) == (np.int32, bool)
    np.testing.assert_array_equal(x, [0, 3, 2, 3, 3])
    np.testing.assert_array_equal(known, [True, False, True, False, False])
    for given in ("", "___", "_ab_", "abcab"):
        x, known = codec.read(given, spec(5))
        assert codec.write(x) == given.ljust(5, "_")
        assert known.sum() == len(given.replace("_", ""))
    with pytest.raises(ValueError, match=r"the text has 4 tokens, an example 3: shorten it by 1"):
        codec.read("ab_c", spec(3))
    with pytest.raises(ValueError, match="not in the alphabet"):
        codec.read("a_d", spec(5))


def test_unknown_characters_are_named_with_their_place():
    with pytest.raises(
        ValueError, match=r"3 characters .*: 'E', 'é'; the first is at 7, in 'the c"
    ):
        text.characters().tokens("the cafés Eé")
    with pytest.raises(ValueError, match=r"26 characters .*'A', 'B'.*'J', …; the first is at 0"):
        text.characters().tokens("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    with pytest.raises(ValueError, match="tokens from -1 to 2: expected 0 to 26, or 27 for what"):
        text.characters().write([2, -1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alphabet": ""}, "alphabet='': expected at least one"),
        ({"alphabet": "abca"}, r"alphabet='abca' repeats \['a'\]"),
        ({"alphabet": "a_"}, "blank='_' is in the alphabet 'a_'; choose another"),
        ({"blank": "__"}, "blank='__': expected one character"),
    ],
)
def test_bad_alphabets_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        text.characters(**options)


def test_a_run_refuses_another_alphabet_or_tokenizer(tmp_path, pairs):
    made = text.characters(alphabet="abc")
    assert made.depends_on == text.characters(alphabet="abc", blank="?").depends_on
    others = [
        text.characters(alphabet="acb"),
        text.characters(alphabet="abc", end=True),
        pairs,
        text.bpe(corpus=corpus, vocabulary=289, data_dir=tmp_path),
        text.bpe(corpus=lambda split: TEXTS[1:], vocabulary=290, data_dir=tmp_path),
    ]
    assert len({len(codec.depends_on) for codec in others}) == 1
    assert len({codec.depends_on for codec in [made, *others]}) == 6
    record_codec(tmp_path, made.depends_on)
    check_codec(tmp_path, {"codec": {}}, made.depends_on)
    for other in others:
        with pytest.raises(ConfigError, match="was trained with a codec that depends on"):
            check_codec(tmp_path, {"codec": {}}, other.depends_on)


def test_pairs_write_every_text_as_it_was(pairs):
    assert (pairs.vocabulary, pairs.end) == (290, 289)
    for given in [*TEXTS, "", "  two  spaces\n\tand 𝄞 Ωκ", "never seen: ✓"]:
        ids = pairs.tokens(given)
        assert ids.dtype == np.int32
        assert ids.size == 0 or ids.max() < pairs.end
        assert pairs.write(ids) == given
        assert pairs.write([*ids, pairs.end, 5, 6]) == given
    assert len(pairs.tokens("the cat sat on the mat")) < 11


def test_pieces_between_blanks_are_cut_apart(pairs):
    x, known = pairs.read("the __ sat", spec(12))
    the, sat = pairs.tokens("the "), pairs.tokens(" sat")
    np.testing.assert_array_equal(x, [*the, 290, 290, *sat, *[290] * (10 - len(the) - len(sat))])
    np.testing.assert_array_equal(known, x != 290)
    assert pairs.write(x).rstrip("_") == "the __ sat"
    with pytest.raises(ValueError, match="the text has 4 tokens, an example 3"):
        pairs.read("____", spec(3))


def test_pairs_are_counted_once_in_the_training_split(tmp_path, pairs, monkeypatch):
    (file,) = (tmp_path / "tokenizers").iterdir()
    assert "xyz" not in json.loads(file.read_text())["model"]["vocab"]
    first = file.read_bytes()
    file.unlink()
    assert text.bpe(corpus=corpus, vocabulary=290, data_dir=tmp_path).depends_on == pairs.depends_on
    assert file.read_bytes() == first
    monkeypatch.setattr(tokenizers.Tokenizer, "train_from_iterator", None)
    again = text.bpe(corpus=corpus, vocabulary=290, data_dir=tmp_path)
    assert again.depends_on == pairs.depends_on
    assert list((tmp_path / "tokenizers").iterdir()) == [file]
    given = text.bpe(file=file, data_dir=tmp_path)
    assert (given.vocabulary, given.depends_on) == (290, pairs.depends_on)
    bare = text.bpe(file=file, data_dir=tmp_path, end=False)
    assert (bare.vocabulary, bare.end) == (289, None)
    assert bare.depends_on != pairs.depends_on


def test_bad_requests_are_refused(tmp_path):
    with pytest.raises(ValueError, match="needs a corpus or a file, and not both"):
        text.bpe(data_dir=tmp_path)
    with pytest.raises(ValueError, match="needs a corpus or a file, and not both"):
        text.bpe(data_dir=tmp_path, corpus=corpus, file="a.json")
    with pytest.raises(ValueError, match=r"255 tokens: .* give vocabulary=257 or more"):
        text.bpe(data_dir=tmp_path, corpus=corpus, vocabulary=256)
    with pytest.raises(ValueError, match="the corpus has no text in its training split"):
        text.bpe(data_dir=tmp_path, corpus=lambda split: [""])
    with pytest.raises(FileNotFoundError, match=r"there is no .*a\.json; file= names a tokenizer"):
        text.bpe(data_dir=tmp_path, file=tmp_path / "a.json")


def test_letters_as_in_text8():
    assert text.letters("In 1984, São Tomé's 12,500 km² – “don’t”!") == (
        "in one nine eight four sao tomes one two five zero zero km two dont"
    )
