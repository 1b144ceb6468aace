"""Exact outputs of every config, sampler and coupling: recorded once, checked while code moves.

    python tests/goldens.py --record                  this stack's section of tests/goldens.json
    python tests/goldens.py --check                   what differs from it, a line for each
    python tests/goldens.py --check --only 'configs/digits*' --rtol 1e-5

They are equal bit for bit where only places and names change: no digest depends on names or their
order. Entries follow by tests/goldens_renames.json (`{old part: new part}` of their names). Only
the parts of a network may not be renamed unseen, as their names seed their first parameters.
Where an order of sums changes, `--rtol` compares the floats and not the digests. Floats depend on
the machine, too: on another one the recorded commit is recorded there first.

Exit codes: 0 equal, or recorded · 1 something differs, or cannot be computed · 2 wrong input
"""

import os
import sys
from pathlib import Path

FILE = Path(__file__).resolve()
ROOT = FILE.parents[1]
JAX = {
    "XLA_FLAGS": "--xla_force_host_platform_device_count=8 --xla_cpu_multi_thread_eigen=false",
    "JAX_PLATFORMS": "cpu",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",  # it compiles far longer than it computes
    **{f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")},
}

if __name__ == "__main__":  # before NumPy and JAX read them, and none of the user's
    for name in [n for n in os.environ if n.startswith(("JAX_", "XLA_"))]:
        del os.environ[name]
    os.environ.update(JAX)
    sys.path.insert(0, str(ROOT))

import argparse  # noqa: E402
import contextlib  # noqa: E402
import fnmatch  # noqa: E402
import io  # noqa: E402
import json  # noqa: E402
import resource  # noqa: E402
import signal  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402
import warnings  # noqa: E402

from helpers import golden_store as store  # noqa: E402

STORED = FILE.with_suffix(".json")
RENAMES = FILE.with_name("goldens_renames.json")


class Refused(Exception):
    """Wrong input, with what to do about it."""


def main(argv):
    args = parse(argv)
    if args.worker:
        return work(args)
    began = time.monotonic()
    try:
        code = record(args) if args.record else check(args)
    except Refused as refused:
        print(refused, file=sys.stderr)
        return 2
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = usage.ru_utime + usage.ru_stime
    print(f"{time.monotonic() - began:.0f} s, {cpu:.0f} s of them on the CPUs by its processes")
    return code


def parse(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, mode = parser.add_argument, parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--record", action="store_true", help="compute and keep")
    mode.add_argument("--check", action="store_true", help="compute and compare")
    mode.add_argument("--worker", metavar="I/N", help="compute the I-th of N shares, for --file")
    add("--only", action="append", metavar="PATTERN", help="of these entries; may be given again")
    add("--rtol", type=float, default=0.0, help="check: how far floats may be apart")
    add("--file", type=resolved, default=STORED, help="another file of goldens")
    add("--jobs", type=int, default=2, help="so many processes; 0: in this one")
    return parser.parse_args(argv)


def resolved(path):
    return Path(path).resolve()


def record(args):
    """Compute all, and keep this stack's section; those of other stacks stay as they are."""
    commit, changed = head()
    if changed and args.file == STORED:
        raise Refused(f"uncommitted changes, so no commit names what is recorded: {changed}")
    sections = store.read(args.file)
    here = {"commit": commit + "+changes" * bool(changed), **store.machine(), "flags": JAX}
    before = sections.get(store.stack(), {"entries": {}})
    entries = before.pop("entries")
    if args.only and entries and before != here:
        raise Refused("the rest of the section is of another commit or machine: record it whole")
    results = computed(args.only, args.jobs)
    failed = {name: entry["error"] for name, entry in results.items() if "error" in entry}
    if failed:
        print(*(f"{name}: {error}" for name, error in failed.items()), sep="\n")
        return 1
    kept = {**entries, **results} if args.only else results
    sections[store.stack()] = {**here, "entries": dict(sorted(kept.items()))}
    store.write(args.file, dict(sorted(sections.items())))
    print(f"{len(results)} entries recorded for {store.stack()} in {args.file}")
    return 0


def check(args):
    """Compute all again; the exit code says whether all are equal."""
    section = store.read(args.file).get(store.stack())
    if section is None:
        raise Refused(f"{args.file} has no section {store.stack()!r}: --record it")
    differs = store.elsewhere(section, store.machine())
    if differs:
        print(f"recorded on another machine: {'; '.join(differs)}", flush=True)
        section = recorded_here(section, args)
    stored = selected(present(section["entries"]), args.only)
    results = computed(args.only, args.jobs)
    lines = store.compare(stored, results, args.rtol)
    print(*lines or [f"{len(results)} entries equal"], sep="\n")
    return 1 if lines else 0


def present(entries):
    """Stored entries under the names that they have by now."""
    try:
        return store.renamed(entries, json.loads(RENAMES.read_text()) if RENAMES.exists() else {})
    except ValueError as error:
        raise Refused(f"{RENAMES}: {error}") from error


def selected(entries, only):
    if not only:
        return entries
    return {n: e for n, e in entries.items() if any(fnmatch.fnmatchcase(n, p) for p in only)}


def recorded_here(section, args):
    """The section as its own commit records it on this machine, in a worktree of its own."""
    commit = section["commit"]
    print(f"recording {commit} here first, in a worktree of its own", flush=True)
    wanted = [n for n in section["entries"] if selected(present({n: 0}), args.only)]
    only = [f"--only={n}" for n in wanted] if args.only else []
    with tempfile.TemporaryDirectory(prefix="fmjax-goldens-") as folder:
        tree, file = Path(folder) / "tree", Path(folder) / "goldens.json"
        made = git("worktree", "add", "--detach", str(tree), commit)
        if made.returncode:
            raise Refused(f"no worktree of the recorded commit {commit}: {made.stderr.strip()}")
        try:
            script = tree / FILE.relative_to(ROOT)
            together(script, [["--record", f"--file={file}", f"--jobs={args.jobs}", *only]], folder)
            return store.read(file)[store.stack()]
        finally:
            git("worktree", "remove", "--force", str(tree))


def head():
    """The commit, and which tracked files differ from it, except that of the goldens."""
    commit, status = git("rev-parse", "HEAD"), git("status", "--porcelain", "-uno")
    if commit.returncode:
        return "none", "this is no git repository"
    changed = [line[3:] for line in status.stdout.splitlines()]
    return commit.stdout.strip(), ", ".join(c for c in changed if ROOT / c != STORED)


def git(*words):
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)


def computed(only, jobs):
    """Every entry, computed by so many processes."""
    words = [f"--only={pattern}" for pattern in only or ()]
    with tempfile.TemporaryDirectory(prefix="fmjax-goldens-") as folder:
        files = [Path(folder) / f"{i}.json" for i in range(max(jobs, 1))]
        shares = [
            ["--worker", f"{i}/{len(files)}", f"--file={file}", *words]
            for i, file in enumerate(files)
        ]
        if not jobs:
            work(parse(shares[0]))
        else:
            together(FILE, shares, folder)
        results = {}
        for file in files:
            results |= json.loads(file.read_text())
    if not results:
        raise Refused(f"no entry is called like {only}")
    return results


def together(script, calls, folder):
    """A script with these flags, side by side; all end when one fails, or this process does.

    What they leave behind is in `folder`.
    """
    options = {"cwd": script.parents[1], "env": {**os.environ, "TMPDIR": folder}}
    started = [
        subprocess.Popen([sys.executable, str(script), *words], **options) for words in calls
    ]
    try:
        while None in (codes := [one.poll() for one in started]) and not any(codes):
            time.sleep(0.1)
        if any(codes):
            raise Refused(f"{script} failed, see above")
    finally:
        for one in started:
            one.terminate()
            one.wait()


def work(args):
    """One share of the entries, written to a file."""
    from helpers import golden_entries

    entries = selected(golden_entries.everything(), args.only)
    results = {}
    for name, compute in golden_entries.share(entries, *map(int, args.worker.split("/"))).items():
        began, said = time.process_time(), io.StringIO()
        try:
            # runs say much, and warn of what a shrunk config lacks
            with (
                contextlib.redirect_stdout(said),
                contextlib.redirect_stderr(said),
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("ignore")
                results[name] = compute()
        except Exception as error:
            traceback.print_exc()
            results[name] = {"error": f"{type(error).__name__}: {error}"}
        print(f"{name}: {time.process_time() - began:.1f} s", file=sys.stderr, flush=True)
    args.file.write_text(json.dumps(results))
    return 0


if __name__ == "__main__":
    if "--worker" not in sys.argv:  # a worktree goes, and workers end, however this process does
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main(sys.argv[1:]))
