"""Where a step's time goes by operator class on 1 and 2 ranks, and how much of the exchanges compute hides."""

import tempfile
from collections.abc import Sequence

from workbench import workloads
from workbench.analyses import analyze
from workbench.studies.core.curves import Curve
from workbench.studies.core.parts import Part, Say
from workbench.studies.core.quantities import Quantity, row
from workbench.trace.run import Run

RANKS = (1, 2)
_OVERHEAD = {"warmup_steps": 2, "profile_steps": 3, "evaluation_batches": 1, "threads_per_rank": 1}
# Preset, its steps and profiled windows, and the most repeats: starting ranks costs more than training them.
SETTINGS = {
    "tiny": ("tiny", {"steps": 8, "profile_every": 8}, 1),
    "small": ("small", {"steps": 24, "profile_every": 10, "accesses_limit_bytes": 0}, 3),
    "full": ("small", {"steps": 100, "profile_every": 20, "accesses_limit_bytes": 0}, 5),
}
CLASSES = {
    "matrix products": r"aten::(?:mm|addmm|bmm|linear|baddbmm|matmul)$",
    "embedding tables": r"split_embedding|embedding_bag",
}
EXPOSED = {
    collective: Quantity(
        name=f"{collective}: time that compute does not hide over its duration, {RANKS[-1]} ranks", unit="1",
        scale_free=False,
    )
    for collective in ("all_to_all", "all_reduce")
}  # fmt: skip
SHARE = Quantity(name=f"exposed communication over the step, {RANKS[-1]} ranks", unit="1", scale_free=False)


def run(scale: str, seeds: Sequence[int], say: Say) -> Part:
    """Trains at this scale's preset for a few steps, once a seed and number of ranks, one thread a rank."""
    preset, settings, most = SETTINGS[scale]
    found: dict[tuple[int, str, str], list[float]] = {}
    jobs = [(seed, ranks) for seed in seeds[:most] for ranks in RANKS]
    for number, (seed, ranks) in enumerate(jobs):
        say(f"training on {ranks} ranks, seed {seed}", number / len(jobs))
        with tempfile.TemporaryDirectory() as traces:
            trained = workloads.run(
                "training", preset, traces, ceilings=False, ranks=ranks, seed=seed, **_OVERHEAD, **settings
            )
            for (operators, view), time_ns in step_times(trained).items():
                found.setdefault((ranks, operators, view), []).append(time_ns)
    last = RANKS[-1]
    rows = [
        row(quantity, _ratios(found, (last, collective, "exposed"), (last, collective, "serialized")), "measured")
        for collective, quantity in EXPOSED.items()
    ]
    rows.append(row(SHARE, _ratios(found, (last, "communication", "exposed"), (last, "step", "exposed")), "measured"))
    curve = Curve(
        title="Time by operator class: serialized, and exposed on the critical path, where it adds up to the step",
        table=bars(found), x="ranks", y="ms a step and rank", colour="class", style="stack", source="measured",
    )  # fmt: skip
    return Part(rows, [curve])


def bars(found: dict[tuple[int, str, str], list[float]]) -> list[dict]:
    """Mean times of each class, stacked by number of ranks and view; what is exposed adds up to the step."""
    mean_ms = {key: sum(times) / len(times) / 1e6 for key, times in found.items()}
    totals = ("communication", "step")
    points = [
        {"ranks": f"W = {ranks}, {view}", "ms a step and rank": time_ms, "class": operators}
        for (ranks, operators, view), time_ms in sorted(
            mean_ms.items(), key=lambda item: (item[0][0], item[0][2] != "serialized")
        )
        if operators not in totals
    ]
    for ranks in RANKS:
        exposed_ms = {of: ms for (of_ranks, of, view), ms in mean_ms.items() if (of_ranks, view) == (ranks, "exposed")}
        left_ms = exposed_ms["step"] - sum(ms for of, ms in exposed_ms.items() if of not in totals)
        points.append({"ranks": f"W = {ranks}, exposed", "ms a step and rank": left_ms, "class": "in no operator"})
    return points


def step_times(run: Run) -> dict[tuple[str, str], float]:
    """(operator class, "serialized" or "exposed") -> ns a step and rank, over profiled steps; the whole step too.

    On a CPU compute is never hidden, so both are equal; of a collective, exposed is what no compute of its rank covers.
    """
    operators, time = analyze(run, "roofline"), analyze(run, "time")
    steps = time.summary["steps"]  # of all ranks
    times: dict[tuple[str, str], float] = {}
    left_ns = operators.table["duration_ns"].sum()
    for name, pattern in CLASSES.items():
        of_class = operators.table["name"].str.contains(pattern)
        class_ns = operators.table.loc[of_class, "duration_ns"].sum()
        left_ns -= class_ns
        times |= {(name, view): class_ns / steps for view in ("serialized", "exposed")}
    times |= {("other operators", view): left_ns / steps for view in ("serialized", "exposed")}
    times["step", "exposed"] = time.summary["window_ns"] / steps
    communication = analyze(run, "communication")
    if communication.applies:
        by_type = communication.table.groupby("collective", observed=True)[["duration_ns", "exposed_ns"]].sum() / steps
        for collective, sums in by_type.iterrows():
            times[collective, "serialized"], times[collective, "exposed"] = sums["duration_ns"], sums["exposed_ns"]
        times["communication", "exposed"] = float(by_type["exposed_ns"].sum())
    return {key: float(value) for key, value in times.items()}


def _ratios(found: dict[tuple, list[float]], over: tuple, under: tuple) -> list[float]:
    return [a / b for a, b in zip(found[over], found[under], strict=True)]
