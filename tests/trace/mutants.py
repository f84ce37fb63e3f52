"""Damaged inputs of every format, and what must hold of each: an answer in JSON or one line, in bounded time.

A mutant is a seed and damage, both chosen by one number, so that the number alone brings a failure back.
"""

import contextlib
import gzip
import inspect
import io
import json
import random
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from damaged import changed_bytes, changed_values, flipped_bits, nested_deeply, repeated_piece, shuffled_entries
from execution_nodes_by_hand import SCHEMAS, document
from formats_by_hand import EXAMPLES, as_bytes, profile

from workbench import cli
from workbench.analyses import PACKAGE, names
from workbench.registry import function

GOLDEN = Path(__file__).parents[2] / "traces" / "golden" / "training-2-ranks"
# CPU time that one command may take: a hundred times what the slowest undamaged seed needs.
BOUND_SECONDS = 60

_OF_BYTES = (changed_bytes, flipped_bits, repeated_piece)
_OF_VALUES = (
    lambda value, chance: changed_values(value, chance, chance.randint(1, 6)),
    shuffled_entries,
    nested_deeply,
)


def damage(content: bytes, chance: random.Random) -> bytes:
    """`content` damaged in its bytes, or in its values where it is JSON."""
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(content)
        if isinstance(value, (dict, list)) and value and chance.random() < 0.6:
            return chance.choice(_OF_VALUES)(value, chance)
    return chance.choice(_OF_BYTES)(content, chance) if content else b"x"


def mutate_file(folder: Path, chance: random.Random) -> list[str]:
    """A damaged trace of some format in `folder`, at times packed; the words of the command line that open it."""
    content, *_ = EXAMPLES[chance.choice(list(EXAMPLES))]
    mutant = damage(as_bytes(content), chance)
    if chance.random() < 0.15:
        mutant = gzip.compress(mutant, 1)
        mutant = flipped_bits(mutant, chance) if chance.random() < 0.5 else mutant
    (folder / "mutant.json").write_bytes(mutant)
    return [str(folder / "mutant.json")]


def mutate_pair(folder: Path, chance: random.Random) -> list[str]:
    """A profile and an execution trace, one of them damaged."""
    contents = [as_bytes(profile()), as_bytes(document(chance.choice(SCHEMAS)))]
    chosen = chance.randrange(2)
    contents[chosen] = damage(contents[chosen], chance)
    for name, content in zip(("profile.json", "executed.json"), contents, strict=True):
        (folder / name).write_bytes(content)
    return [str(folder / "profile.json"), "--execution-trace", str(folder / "executed.json")]


def mutate_ranks(folder: Path, chance: random.Random) -> list[str]:
    """A folder of two ranks, one of them damaged."""
    for rank in (0, 1):
        content = as_bytes(profile(rank))
        (folder / f"rank-{rank}.json").write_bytes(damage(content, chance) if rank else content)
    return [str(folder)]


def mutate_run(folder: Path, chance: random.Random) -> list[str]:
    """The golden run with one file damaged."""
    run = folder / GOLDEN.name
    shutil.copytree(GOLDEN, run)
    file = run / chance.choice(sorted(path.name for path in GOLDEN.iterdir() if path.is_file()))
    content = file.read_bytes()
    if file.name.endswith(".gz"):
        file.write_bytes(gzip.compress(damage(gzip.decompress(content), chance), 1))
    elif file.name.endswith(".jsonl"):
        lines = content.splitlines(keepends=True)
        place = chance.randrange(len(lines))
        lines[place] = damage(lines[place], chance) + b"\n"
        file.write_bytes(b"".join(lines))
    else:
        file.write_bytes(damage(content, chance))
    return [str(run)]


def mutant(number: int, folder: Path, runs_share: float) -> list[str]:
    """Make mutant `number` in the empty `folder`; every so often (`runs_share`) it is a run directory."""
    chance = random.Random(number)
    if chance.random() < runs_share:
        return mutate_run(folder, chance)
    return chance.choices((mutate_file, mutate_pair, mutate_ranks), weights=(6, 2, 2))[0](folder, chance)


def check(words: list[str], options: list[str]) -> int:
    """Analyse what `words` name, on the command line; the exit code.

    AssertionError, or whatever was raised, where something else comes out than JSON, or one line and exit code 2.
    """
    with bounded(BOUND_SECONDS):
        code, out, error = command(["analyze", *words, *options, "--format", "json"])
    assert code in (0, 2), (code, error)
    if code == 0:
        json.loads(out, parse_constant=_refuse)
    else:
        # What takes over a second says first what it does.
        assert out == "" and re.fullmatch(r"(reading \.\.\.\n)?workbench: [^\n]*\n", error), (out, error)
    return code


def one_analysis(number: int) -> list[str]:
    """Options that choose one analysis, and one of the ways in which it can split its rows."""
    chance = random.Random(number)
    name = chance.choice(names())
    by = inspect.signature(function(PACKAGE, name, "analysis")).parameters.get("by")
    return ["--analysis", name, *(["--set", f"by={chance.choice(get_args(by.annotation))}"] if by else [])]


def command(words: list[str]) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of the command line, in this process."""
    out, error, given = io.StringIO(), io.StringIO(), sys.argv
    try:
        sys.argv = ["workbench", *words]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            cli.main()
    except SystemExit as stop:
        return stop.code, out.getvalue(), error.getvalue()
    finally:
        sys.argv = given
    raise AssertionError("the command line did not exit")


@contextlib.contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Raise TimeoutError when the block takes more CPU time than this."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"took more than {seconds} s of CPU time")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")
