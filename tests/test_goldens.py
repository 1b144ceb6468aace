"""The net under moved code holds: what it keeps, what it compares, and where it refuses."""

import json
import subprocess
from pathlib import Path

import goldens
import numpy as np
import pytest
from helpers import golden_store as store

ROOT = Path(__file__).parent.parent
ENTRY = {"losses": [1.5, 2.25], "parameters": "aa", "nfe": 4}
ONLY = "couplings/independent/*"


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A file of this stack with one entry, which this process computes; no renames."""
    monkeypatch.setattr(goldens, "RENAMES", tmp_path / "renames.json")
    path = tmp_path / "goldens.json"
    assert run("--record", path) == 0
    return path


def run(mode, path, *words, only=ONLY):
    return goldens.main([mode, f"--file={path}", f"--only={only}", "--jobs=0", *words])


def changed(path, change):
    """The file after `change(section)`."""
    sections = json.loads(path.read_text())
    change(sections[store.stack()])
    path.write_text(json.dumps(sections))


def test_a_digest_knows_no_names_and_no_order_but_every_bit():
    a, b = np.arange(6.0, dtype=np.float32).reshape(2, 3), np.ones(4, np.int32)
    whole = store.digest([a, b])
    assert len(whole) == 16
    assert store.digest([b, a]) == whole
    bit = a.copy()
    bit.view(np.uint32)[0, 0] ^= 1
    others = [bit, b], [a.reshape(3, 2), b], [a.astype(np.float64), b], [a], [a, b, b]
    assert len({whole, *map(store.digest, others)}) == 6


def test_a_number_is_short_and_gives_back_its_bits():
    for number in np.random.default_rng(0).normal(size=100).astype(np.float32):
        kept = json.loads(json.dumps(store.exact(number)))
        assert np.float32(kept) == number
        assert len(str(kept)) < 15


def test_what_differs_is_said_in_a_line_each():
    stored = {"a": ENTRY, "b": ENTRY, "c": ENTRY, "d": ENTRY, "e": ENTRY}
    found = {
        "a": ENTRY,
        "b": {**ENTRY, "losses": [1.5, 2.250009]},
        "c": {**ENTRY, "parameters": "bb"},
        "e": {"error": "ValueError: no"},
        "f": ENTRY,
    }
    assert store.compare(stored, found) == [
        "b: losses was [1.5, 2.25], is [1.5, 2.250009], 4e-06 apart, relatively",
        "c: parameters was aa, is bb",
        "d: is in the file, and nothing computes it any more",
        "e: ValueError: no",
        "f: is new, and not in the file",
    ]
    assert store.compare({"a": ENTRY}, {"a": {"losses": ENTRY["losses"], "rows": "cc"}}) == [
        "a: parameters was aa, is None",
        "a: nfe was 4, is None",
        "a: rows was None, is cc",
    ]


def test_within_rtol_floats_are_equal_and_their_digests_ignored():
    near = {"losses": [1.5, 2.250009], "parameters": "bb", "nfe": 4}
    compared = lambda new, rtol: len(store.compare({"a": ENTRY}, {"a": new}, rtol))  # noqa: E731
    assert compared(near, 0.0) == 2
    assert compared(near, 1e-6) == 2
    assert compared(near, 1e-5) == 0
    assert compared({**near, "nfe": 5}, 1e-5) == 1
    assert compared({**near, "losses": [1.5]}, 1e-5) == 2
    mean = [{"a": {"mean": m, "std": 2.0, "samples": str(m)}} for m in (1e-9, 1e-6)]
    assert store.compare(*mean, 1e-7)
    assert not store.compare(*mean, 1e-6)
    # rows alone have nothing else to be near by
    assert store.compare({"a": {"rows": "aa"}}, {"a": {"rows": "bb"}}, 1.0)


def test_renames_bring_stored_names_up_to_date():
    entries = {"samplers/refresh/ddim": 1, "samplers/ode/heun": 2}
    renames = {"samplers/refresh": "samplers/ddim", "ddim/ddim": "ddim/plain"}
    assert store.renamed(entries, renames) == {"samplers/ddim/plain": 1, "samplers/ode/heun": 2}
    with pytest.raises(ValueError, match="two entries would be called 'b'"):
        store.renamed({"a": 1, "b": 2}, {"a": "b"})


def test_another_machine_is_one_of_other_features_cores_or_jaxlib():
    here = store.machine()
    assert store.elsewhere(here, here) == []
    assert store.elsewhere({**here, "cpu": "another", "numpy": "1.0"}, here) == []
    other = {"cores": 96, "jaxlib": "0.1"}
    said = [f"cores 96, here {here['cores']}", f"jaxlib 0.1, here {here['jaxlib']}"]
    assert store.elsewhere({**here, **other}, here) == said
    flags = {**here, "cpu_flags": [*here["cpu_flags"], "avx9"]}
    assert store.elsewhere(flags, here) == ["cpu_flags differ in avx9"]


def test_the_same_is_green_and_a_changed_value_red(file, capsys):
    assert run("--check", file) == 0
    assert "1 entries equal" in capsys.readouterr().out
    changed(file, lambda section: section["entries"][f"{ONLY[:-1]}traced"].update(rows="00"))
    assert run("--check", file) == 1
    assert "couplings/independent/traced: rows was 00, is " in capsys.readouterr().out


def test_other_stacks_and_other_entries_stay(file):
    section = store.read(file)[store.stack()]
    section["entries"]["configs/x/devices=1"] = ENTRY
    store.write(file, {store.stack(): section, "jax 9, Python 4": {"entries": {"a": ENTRY}}})
    before = store.read(file)
    assert run("--record", file) == 0
    assert store.read(file) == before
    lines = file.read_text().splitlines()
    assert sum("configs/x/devices=1" in line and "2.25" in line for line in lines) == 1
    changed(file, lambda section: section.update(commit="another"))
    assert run("--record", file) == 2


def test_stored_names_follow_the_renames(file, capsys):
    entries = {"couplings/chance/traced": store.read(file)[store.stack()]["entries"].popitem()[1]}
    changed(file, lambda section: section.update(entries=entries))
    assert run("--check", file) == 1
    goldens.RENAMES.write_text('{"couplings/chance": "couplings/independent"}')
    capsys.readouterr()
    assert run("--check", file) == 0


def test_wrong_input_is_refused_in_a_line(file, capsys, monkeypatch):
    assert run("--check", file, only="couplings/none") == 2
    assert "no entry is called like" in capsys.readouterr().err
    assert run("--check", file.with_name("other.json")) == 2
    assert "has no section" in capsys.readouterr().err
    status = {"rev-parse": "abc", "status": " M fmjax/train.py\n M tests/goldens.json\n"}
    monkeypatch.setattr(
        goldens, "git", lambda *w: subprocess.CompletedProcess(w, 0, status[w[0]], "")
    )
    assert goldens.main(["--record"]) == 2
    assert capsys.readouterr().err.endswith("recorded: fmjax/train.py\n")


def test_another_machine_compares_with_the_commit_recorded_here(file, capsys, monkeypatch):
    """The worktree is removed, whether its commit can be recorded or not."""
    recorded = store.read(file)
    changed(file, lambda section: section.update(cores=96, entries={f"{ONLY[:-1]}traced": {}}))
    calls, fails = [], False

    def git(*words):
        calls.append(words[:2])
        return subprocess.CompletedProcess(words, 0, "", "")

    def together(script, flags, folder):
        there = Path(next(w for w in flags[0] if w.startswith("--file=")).removeprefix("--file="))
        assert "--only=couplings/independent/traced" in flags[0]
        if fails:
            raise goldens.Refused("it failed")
        store.write(there, recorded)

    monkeypatch.setattr(goldens, "git", git)
    monkeypatch.setattr(goldens, "together", together)
    assert run("--check", file) == 0
    assert "recorded on another machine: cores 96" in capsys.readouterr().out
    fails = True
    assert run("--check", file) == 2
    assert calls == 2 * [("worktree", "add"), ("worktree", "remove")]


def test_files_without_an_entry_are_named():
    from helpers import golden_entries

    names = golden_entries.everything()
    assert {name.split("/")[1] for name in names if name.startswith("configs/")} == {
        path.stem for path in (ROOT / "configs").glob("*.py")
    }
    fewer = [n for n in names if not n.startswith(("samplers/ode/", "guidance/blend/"))]
    with pytest.raises(LookupError, match="no entry for samplers/ode/, guidance/blend/: add"):
        golden_entries.check(fewer)
    shares = [golden_entries.share(names, i, 2) for i in range(2)]
    assert sorted([*shares[0], *shares[1]]) == sorted(names)


@pytest.mark.skipif(not goldens.STORED.exists(), reason="nothing is recorded yet: goldens.json")
def test_the_recorded_file_is_small_and_whole():
    assert goldens.STORED.stat().st_size < 2_000_000
    for section in store.read(goldens.STORED).values():
        assert "changes" not in section["commit"]
        names = goldens.present(section["entries"])
        for folder in ("configs", "fmjax/samplers", "fmjax/couplings"):
            for path in (ROOT / folder).glob("[!_]*.py"):
                start = f"{Path(folder).name}/{path.stem}/"
                assert any(name.startswith(start) for name in names), start
