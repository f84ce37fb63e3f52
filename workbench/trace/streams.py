"""The Arrow streams of a run directory: metrics and embedding accesses, readable also where a process was killed."""

from pathlib import Path

import pandas as pd
import pyarrow as pa

from workbench.trace.recorder import ACCESSES_SCHEMA, METRICS_SCHEMA


def read_metrics(directories: list[Path]) -> pd.DataFrame:
    """All processes' time series: process, time_ns, step, name, value."""
    return _read(directories, "metrics", METRICS_SCHEMA)


def read_accesses(directories: list[Path]) -> pd.DataFrame:
    """All processes' sampled embedding accesses, in order: process, step, table, lengths, rows (arrays)."""
    return _read(directories, "accesses", ACCESSES_SCHEMA)


def _read(directories: list[Path], suffix: str, schema: pa.Schema) -> pd.DataFrame:
    frames = [pd.DataFrame({"process": pd.Series([], dtype="str")} | {name: [] for name in schema.names})]
    for directory in directories:
        for path in sorted(Path(directory).glob(f"*.{suffix}.arrow")):
            frame = _whole_batches(path, schema).to_pandas()
            frame.insert(0, "process", path.name.removesuffix(f".{suffix}.arrow"))
            frames.append(frame)
    return pd.concat(frames[1:] or frames, ignore_index=True)


def _whole_batches(path: Path, schema: pa.Schema) -> pa.Table:
    """The complete record batches of a stream that may have been cut anywhere."""
    batches = []
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
            for batch in stream:
                batch.validate(full=True)  # damaged offsets would read outside the file
                batches.append(batch.cast(schema))
    except (pa.ArrowException, OSError, ValueError):
        # A killed writer leaves half a batch, or half a schema: what came before it counts.
        pass
    return pa.Table.from_batches(batches, schema=schema)
