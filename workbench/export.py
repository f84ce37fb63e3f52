"""A run for other tools: Perfetto (Chrome JSON, with costs on operators), CSV, Parquet."""

import gzip
import math
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pandas as pd

from workbench.errors import InputError
from workbench.trace.run import Run

_SUFFIX = {"perfetto": ".perfetto.json.gz", "csv": ".events.csv", "parquet": ".events.parquet"}


def export(run: Run, target: str, out: Path | None = None) -> Path:
    """Write the events of `run` for `target` (perfetto, csv, parquet) to `out`, whole or not at all.

    Without `out`: `<run>.<suffix>` in the current folder, since a user's trace folder is not ours to write into.
    """
    out = out or Path(run.name + _SUFFIX[target])
    scratch = out.with_name(f".{out.name}.part")
    try:
        if target == "perfetto":
            _write_perfetto(run, scratch)
        elif target == "csv":
            run.events.to_csv(scratch, index=False)
        else:
            run.events.to_parquet(scratch, index=False)
        scratch.replace(out)
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}; choose another file with --out") from None
    finally:
        scratch.unlink(missing_ok=True)
    return out


def _write_perfetto(run: Run, path: Path) -> None:
    """One process a rank, one thread a lane; times are relative to the first event, whose Unix time is the base."""
    base_ns = int(run.events["start_ns"].min()) if len(run.events) else 0
    encoder = msgspec.json.Encoder()
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b'{"displayTimeUnit":"ms","baseTimeNanoseconds":%d,"traceEvents":[\n' % base_ns)
        separator = b""
        for event in _chrome_events(run.events, base_ns):
            file.write(separator + encoder.encode(event))
            separator = b",\n"
        file.write(b"\n]}\n")


def _chrome_events(events: pd.DataFrame, base_ns: int) -> Iterator[dict]:
    lanes = events.groupby(["process", "lane"], observed=True).ngroup().to_numpy()
    processes = events["process"].cat.codes.to_numpy()
    named: set[tuple[int, int]] = set()
    for row, pid, tid in zip(events.itertuples(index=False), processes.tolist(), lanes.tolist(), strict=True):
        if (pid, tid) not in named:
            named.add((pid, tid))
            yield _name("process_name", pid, tid, row.process)
            yield _name("thread_name", pid, tid, f"{row.device} {row.lane}")
        arguments = {
            key: getattr(row, key)
            for key in ("step", "phase", "collective", "group_size", "source", "tags")
            if getattr(row, key) not in ("", -1)
        }
        arguments |= {key: getattr(row, key) for key in ("flops", "message_bytes") if not math.isnan(getattr(row, key))}
        yield {
            "ph": "X", "name": row.name, "cat": row.kind, "pid": pid, "tid": tid,
            "ts": (row.start_ns - base_ns) / 1000, "dur": row.duration_ns / 1000, "args": arguments,
        }  # fmt: skip


def _name(what: str, pid: int, tid: int, name: str) -> dict:
    return {"ph": "M", "name": what, "pid": pid, "tid": tid, "args": {"name": name}}
