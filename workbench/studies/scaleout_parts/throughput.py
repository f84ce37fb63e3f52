"""The largest rate of Poisson arrivals whose P99 stays within the SLA, by LoadGen's own search."""

import importlib.util
from collections.abc import Sequence

from workbench.studies.core.curves import Curve
from workbench.studies.core.parts import Part, Say
from workbench.studies.core.quantities import Quantity, missing, row
from workbench.studies.scaleout_parts.cuts import SINGULAR, load_bal
from workbench.studies.scaleout_parts.deployments import Served, exported, serve
from workbench.studies.scaleout_parts.scales import SCALES

SLA_MS = 100.0
# A search takes about 20 tests: at scale small one search a cut, whose value has no interval.
_REPEATS = {"tiny": 1, "small": 1, "full": 3}
_SEARCH = {
    "tiny": {"requests": 4, "min_duration_s": 0.1, "qps": 4.0},
    "small": {"requests": 20, "min_duration_s": 1.0, "qps": 10.0},
    "full": {"requests": 10_000, "min_duration_s": 60.0, "qps": 10.0},
}


def run(scale: str, seeds: Sequence[int], say: Say) -> Part:
    """The first model on one server, and load-balanced over the fewest shards: more would only share the cores."""
    size = SCALES[scale]
    model = size.models[0]
    cuts = [SINGULAR, load_bal(min(size.shards))]
    quantities = {
        cut: Quantity(
            name=f"{model}, {cut}: requests a second within {SLA_MS:g} ms at P99", unit="1/s", scale_free=False
        )
        for cut in cuts
    }
    if importlib.util.find_spec("mlperf_loadgen") is None:
        why = "LoadGen is not installed: pip install 'recsys-workbench[load]'"
        return Part([missing(quantity, "measured", why) for quantity in quantities.values()])
    repeats = list(seeds)[: _REPEATS[scale]]
    rows, points = [], []
    with exported(model, size.rows_factor) as folder:
        for place, (cut, quantity) in enumerate(quantities.items()):
            say(f"{cut}: searching", place / len(cuts))
            load = {"load": "server_peak", "sla_ms": SLA_MS, "warmup_requests": 5, "items": size.items}
            settings = load | _SEARCH[scale] | cut.settings
            found = row(
                quantity, [peak_qps(serve(exported=folder, seed=seed, **settings)) for seed in repeats], "measured"
            )
            rows.append(found)
            points.append({"cut": str(cut), "requests/s": found["ours"]})
    curve = Curve(
        title=f"{model}: requests a second within {SLA_MS:g} ms at P99", table=points, x="cut", y="requests/s",
        style="bar", source="measured",
    )  # fmt: skip
    return Part(rows, [curve])


def peak_qps(served: Served) -> float:
    """What LoadGen's last test completed, at the rate that its search settled on."""
    return float(served.manifest["results"]["loadgen"]["result_completed_samples_per_sec"])
