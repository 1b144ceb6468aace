import json
import os

import numpy as np
import pytest
import unshuffled

from fmjax import text
from fmjax.data import text_folder as module
from fmjax.data.text_folder import text_folder

CODEC = text.characters(alphabet="abcdefghijklmnopqrstuvwxyz \n", end=True)
ENDLESS = text.characters(alphabet="abcdefghijklmnopqrstuvwxyz \n")


def made(folder, data_dir, **options):
    options = {"codec": CODEC, "batch_size": 4, "length": 1, "say": lambda line: None} | options
    return text_folder(folder, data_dir=data_dir, **options)


def line(data, split, codec=CODEC):
    """The split as text, an end being a bar: windows of one token, put back into their order."""
    tokens = unshuffled.rows(data, split).x1[:, 0]
    return "".join("|" if i == codec.end else codec.write([i]) for i in tokens)


def write(folder, **files):
    for name, content in files.items():
        file = folder / name.replace("__", "/").replace("_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return folder


def test_folders_name_their_splits(tmp_path):
    folder = write(
        tmp_path / "texts", train__a_txt="one two", train__b_txt="three", valid__a_txt="four five",
        test__deep__train_txt="six seven",
    )  # fmt: skip
    data = made(folder, tmp_path)
    assert set(data.splits) == {"train", "valid", "test"}
    assert line(data, "train") == "one two|three|"
    assert line(data, "valid") == "four five|"
    assert line(data, "test") == "six seven|"
    assert (data.spec.x1.shape, data.spec.x1.dtype, data.spec.cond) == ((1,), np.int32, None)
    endless = made(folder, tmp_path, codec=ENDLESS)
    assert line(endless, "train", ENDLESS) == "one two\nthree\n"


def test_names_of_files_do_and_a_valid_split_may_be_the_test(tmp_path):
    folder = write(tmp_path / "texts", wiki_train_txt="one two", wiki_valid_txt="three four")
    data = made(folder, tmp_path)
    assert line(data, "train") == "one two|"
    assert line(data, "test") == "three four|"
    assert set(data.splits) == {"train", "test"}


def test_one_file_is_cut_by_position(tmp_path):
    letters = "".join(chr(97 + i % 26) for i in range(200))
    (tmp_path / "text8").write_text(letters)
    for folder in (tmp_path / "text8", write(tmp_path / "one", a_txt=letters)):
        data = made(folder, tmp_path)
        assert line(data, "train") == letters[:180] + "|"
        assert line(data, "valid") == letters[180:190] + "|"
        assert line(data, "test") == letters[190:] + "|"
    lines = "".join(json.dumps({"text": f"text {chr(97 + i)}"}) + "\n" for i in range(20))
    data = made(write(tmp_path / "lines", a_jsonl=lines + "\n"), tmp_path)
    assert line(data, "test") == "text t|"
    assert line(data, "train").count("|") == 18


def test_several_files_are_shared_and_stay_on_their_side(tmp_path):
    names = [f"{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(60)]
    folder = write(tmp_path / "texts", **{f"{name}_txt": f"text {name}" for name in names[:40]})
    before = line(made(folder, tmp_path, test_share=0.2), "test").split("|")
    write(folder, **{f"{name}_txt": f"text {name}" for name in names[40:]})
    data = made(folder, tmp_path, test_share=0.2)
    after, train = (line(data, split).split("|") for split in ("test", "train"))
    assert set(before) < set(after)
    assert sorted([*after[:-1], *train[:-1]]) == sorted(f"text {name}" for name in names)


def test_tokens_are_made_once_of_these_files_and_this_codec(tmp_path):
    folder = write(tmp_path / "texts", train_txt="one two three", test_txt="four five")
    said = []
    data = made(folder, tmp_path, say=said.append)
    first = made(folder, tmp_path, say=said.append, seed=3)
    assert len(said) == 1
    assert data.contents("train") == first.contents("train") != data.contents("test")
    (file,) = (tmp_path / "tokens").rglob("train.npy")
    assert np.load(file).dtype == np.uint16
    made(folder, tmp_path, say=said.append, codec=ENDLESS)
    made(folder, tmp_path, say=said.append, joined=" ")
    made(folder, tmp_path, say=said.append, clean=text.letters)
    assert len(said) == 4
    old = (folder / "train.txt").stat()
    (folder / "train.txt").write_text("one two eerht")
    os.utime(folder / "train.txt", ns=(old.st_atime_ns, old.st_mtime_ns + 1000))
    data = made(folder, tmp_path, say=said.append)
    assert len(said) == 5
    assert line(data, "train") == "one two eerht|"
    assert not list((tmp_path / "tokens").rglob(".making-*"))


def test_batches_are_pure_and_shared_by_processes(tmp_path):
    folder = write(tmp_path / "texts", train_txt="abcdefghijklmnopqrs" * 3, test_txt="four five")
    data = made(folder, tmp_path, length=5)
    whole = [data.batch("train", s).x1 for s in range(6)]
    shares = [made(folder, tmp_path, length=5, process=(i, 2)) for i in range(2)]
    for s in reversed(range(6)):
        np.testing.assert_array_equal(data.batch("train", s).x1, whole[s])
        together = np.concatenate([share.batch("train", s).x1 for share in shares])
        np.testing.assert_array_equal(together, whole[s])


def test_long_texts_become_tokens_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 10)
    long = "the cat sat on\nthe mat abcdefghijklmnopqrstuvwxyz the end"
    folder, seen = write(tmp_path / "texts", train_txt=long, test_txt="four five"), []
    codec = CODEC._replace(tokens=lambda text: seen.append(text) or CODEC.tokens(text))
    assert line(made(folder, tmp_path, codec=codec), "train") == long + "|"
    *blocks, test = seen
    assert ("".join(blocks), test) == (long, "four five")
    assert len(blocks) > 3
    assert all(block[0] in " \n" for block in blocks[1:3])


def test_texts_are_cleaned_and_marks_of_byte_order_left_out(tmp_path):
    folder = write(tmp_path / "texts", train_txt="\ufeffIn 1984!", test_txt="four five")
    codec = text.characters()
    data = made(folder, tmp_path, codec=codec, clean=text.letters)
    assert line(data, "train", codec) == "in one nine eight four "


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({}, FileNotFoundError, r"no text below .*: expected files in \.txt, \.jsonl"),
        ({"train_txt": "a", "b_txt": "b"}, ValueError, r"train.txt is of .*b.txt of none: put all"),
        ({"train_txt": "a"}, ValueError, r"is of the split 'test', only of train: put some into"),
        ({"test_txt": "a"}, ValueError, r"is of the split 'train', only of test: put some into"),
        ({"train_txt": " \n", "test_txt": "b"}, ValueError, r"train.txt is empty: remove it"),
        ({"train_jsonl": "\n", "test_txt": "b"}, ValueError, r"train.jsonl is empty: remove it"),
        ({"train_jsonl": "\nx\n", "test_txt": "b"}, ValueError, r"line 2 of .* is no JSON: "),
        ({"train_jsonl": '{"t": 1}', "test_txt": "b"}, ValueError, r"line 1 .* but \['t'\]; field"),
        ({"train_jsonl": "[1]", "test_txt": "b"}, ValueError, r"under 'text', but list; field="),
        ({"train_txt": "aB", "test_txt": "b"}, ValueError, r"train.txt: 1 char.* alphabet .*: 'B'"),
        ({"train_txt": "abc", "test_txt": "b"}, ValueError, r"'train' has no window of 5 tokens"),
    ],
)
def test_bad_folders_are_refused(tmp_path, files, error, message):
    folder = write(tmp_path / "texts", **files)
    folder.mkdir(exist_ok=True)
    with pytest.raises(error, match=message):
        made(folder, tmp_path, length=5)
    assert not list((tmp_path).rglob(".making-*"))


def test_bad_requests_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere; folder= names one"):
        made(tmp_path / "nowhere", tmp_path)
    folder = write(tmp_path / "texts", train_txt="one two", test_txt="three")
    (folder / "train.txt").write_bytes("café".encode("latin1"))
    with pytest.raises(ValueError, match=r"train.txt is not UTF-8 \(byte 3 is 0xe9\): convert it"):
        made(folder, tmp_path)
    with pytest.raises(ValueError, match="test_share=1: expected"):
        made(folder, tmp_path, test_share=1)
    (folder / "train.txt").write_text("one two three")
    with pytest.raises(ValueError, match="no split 'dev'; there are: test, train"):
        made(folder, tmp_path).contents("dev")
