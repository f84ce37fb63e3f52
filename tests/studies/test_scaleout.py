"""Study scaleout: the whole at scale tiny, and each group of quantities on deployments whose figures are made up."""

import importlib.util
import json

import pandas as pd
import pytest

from workbench import studies
from workbench.studies.core.folder import read
from workbench.studies.core.quantities import COLUMNS
from workbench.studies.scaleout_parts import (
    balance,
    batching,
    compression,
    compute,
    contention,
    overhead,
    relations,
    stacks,
    throughput,
)
from workbench.studies.scaleout_parts.cuts import ONE_SHARD, SINGULAR, cap_bal, cuts_of, load_bal, nsbp
from workbench.studies.scaleout_parts.deployments import Served, exported
from workbench.studies.scaleout_parts.grid import Grid
from workbench.workloads.inference.models import model_config
from workbench.workloads.inference.models.exported import load_model


def said(text: str, share: float) -> None:
    assert text and 0 <= share <= 1


def made(p50_ns=1e6, p99_ns=2e6, cpu_ns=1e6, rpcs=0.0, manifest=None, shards=None, **parts) -> Served:
    """A deployment with these figures; `parts` are ns of the median requests."""
    row = {f"{part}_ns": taken for part, taken in parts.items()}
    percentiles = pd.DataFrame([{"latency_ns": p50_ns, **row}, {"latency_ns": p99_ns, **row}], index=[50.0, 99.0])
    summary = {"cpu_ns": cpu_ns, "rpcs_per_request": rpcs, "requests": 10}
    return Served(percentiles, pd.DataFrame(shards or {}), summary, manifest or {})


def made_grid(**singular_and_cuts) -> Grid:
    """Two seeds, alike; by the name of a cut: singular, one_shard or load_2."""
    cuts = {"singular": SINGULAR, "one_shard": ONE_SHARD, "load_2": load_bal(2), "nsbp_4": nsbp(4), "nsbp_2": nsbp(2)}
    served = {
        (cuts[name], source): [found] * 2
        for name, found in singular_and_cuts.items()
        for source in ("measured", "modelled")
    }
    return Grid("m", [cuts[name] for name in singular_and_cuts if name != "singular"], served)


def rows_of(part) -> dict[str, dict]:
    return {row["quantity"]: row for row in part.rows}


def test_the_whole_study_at_scale_tiny(tmp_path):
    told = []
    path = studies.run("scaleout", "tiny", 1, tmp_path, lambda text, share: told.append(share))
    written, saved = read(path), json.loads((path / "study.json").read_text())
    assert written.status == "complete" and told == sorted(told) and told[-1] == 1
    assert set(saved["rows"][0]) == set(COLUMNS)
    table = written.result.table.set_index("quantity")
    assert table.index.is_unique and set(table["source"]) == {"measured", "modelled"}
    assert table.loc[~table["verdict"].str.startswith("not testable"), "tag"].str.contains("src|derived").all()
    assert not table["tag"].str.contains("recalled L").any() and "not reproduced" not in set(table["verdict"])
    # Two nets: balanced shards are asked for both, each of NSBP's for one.
    rpcs = table.loc[table.index.str.contains("RPCs a request"), "ours"]
    assert rpcs.to_dict() == {
        f"tiny, {cut}: RPCs a request": count
        for cut, count in (("singular", 0), ("1 shard", 2), ("load-bal 3", 6), ("NSBP 3", 3))
    }
    # P99 is not claimed of eight requests.
    best = table.loc[table.index.str.contains("the best cut")]
    assert best["ours"].isna().all() and best["verdict"].str.contains("10,000 requests").all()
    # The parts of every stack are those of the median requests, singular's embedded portion is its lookup.
    portion = next(c.table for c in written.result.curves if "embedded portion, on the cores" in c.title)
    taken_ms = {point["part"]: point["ms a request"] for point in portion if point["cut"] == "singular"}
    assert [part for part, ms in taken_ms.items() if ms > 0] == ["sparse"]


def test_cuts_bear_the_papers_names():
    assert [str(cut) for cut in cuts_of("drm1-mini", (2, 8))] == [
        "1 shard", "cap-bal 2", "cap-bal 8", "load-bal 2", "load-bal 8", "NSBP 2", "NSBP 8",
    ]  # fmt: skip
    assert cuts_of("drm3-mini", (4, 8)) == [ONE_SHARD, nsbp(4), nsbp(8)]
    assert cap_bal(4).settings == {"strategy": "capacity_balanced", "shards": 4}


def test_overheads_are_ratios_of_the_same_percentile():
    grid = made_grid(
        singular=made(p50_ns=10, p99_ns=40, cpu_ns=100), one_shard=made(p50_ns=15, p99_ns=50, cpu_ns=150),
        load_2=made(p50_ns=12, p99_ns=42, cpu_ns=300),
    )  # fmt: skip
    rows = rows_of(overhead.part(grid, (50, 99)))
    assert rows["m, 1 shard: P50 over singular's, on the cores that are here"]["ours"] == 1.5
    assert rows["m, load-bal 2: P99 over singular's, with a core for each server"]["ours"] == 1.05
    assert rows["m, load-bal 2: CPU time over singular's"]["ours"] == 3
    best = rows["m, the best cut: P99 over singular's, on the cores that are here"]
    assert (best["ours"], best["paper"], best["tag"]) == (1.05, 1.01, "src: abstract, +1 % at P99")
    assert best["verdict"] == "not testable here: it depends on the machine or the size of what runs on it"


def test_relations_compare_the_cuts_that_the_paper_compares():
    grid = made_grid(singular=made(), nsbp_2=made(p50_ns=10), nsbp_4=made(p50_ns=11, rpcs=4.0))
    rows = rows_of(relations.part(grid, (2, 4)))
    flat = rows["m, P50: NSBP 4 over NSBP 2"]
    assert flat["ours"] == 1.1 and flat["source"] == "modelled" and flat["tag"] == "unverified (recalled M)"
    counted = rows["m, NSBP 4: RPCs a request"]
    assert counted["paper"] == 4 and counted["verdict"] == "reproduced"


def test_the_networks_share_is_of_the_embedded_portion():
    served = made(embedded=400, embedded_network=300, dense=1000)
    assert stacks.network_share(served) == 0.75


def test_contention_by_hand():
    """CPU time of 30 ns over two cores beside a path of 10: between 15 and 15 + 10 / 2."""
    host = {"host": {"usable_cpus": [0, 1]}}
    grid = made_grid(singular=made(), load_2=made(p50_ns=18, cpu_ns=30, manifest=host))
    grid.served[load_bal(2), "modelled"] = [made(p50_ns=10, manifest=host)] * 2
    part = contention.part(grid, (2,))
    ours = {
        name.removeprefix("m, load-bal 2: P50, "): (row["ours"], row["source"]) for name, row in rows_of(part).items()
    }
    assert ours == {
        "on 2 cores": (18, "measured"),
        "with a core for each server": (10, "modelled"),
        "CPU time over 2 cores": (15, "modelled"),
        "the least that sharing 2 cores allows": (15, "modelled"),
        "the most that sharing 2 cores explains": (20, "modelled"),
    }
    assert "0.90 to 0.90 of the most" in part.notes[0]
    [curve] = part.curves
    assert {point["P50"]: point["source"] for point in curve.table} == {
        name: source for name, (_, source) in ours.items()
    }


def test_a_core_for_each_server_leaves_the_path():
    host = {"host": {"usable_cpus": list(range(100))}}
    least_ns, most_ns = contention.bounds_ns(made(cpu_ns=30, manifest=host), made(p50_ns=10))
    assert least_ns == 10 and most_ns == pytest.approx(10.2)


def test_balance_by_hand():
    """Shards of 10 and 30 B, 4 and 4 lookups; 5 calls of 100 ns and 10 of 200 ns in 10 requests."""
    manifest = {
        "shards": [
            {"name": "shard-0", "bytes": 10, "lookups_per_request": 4.0},
            {"name": "shard-1", "bytes": 30, "lookups_per_request": 4.0},
        ]
    }
    calls = {"calls": {"shard-0": 5, "shard-1": 10}, "sparse_ns": {"shard-0": 100.0, "shard-1": 200.0}}
    served = made(manifest=manifest, shards=calls)
    assert balance.shard_loads(served)["sparse time"].tolist() == [50, 200]
    rows = rows_of(balance.part(made_grid(singular=made(), load_2=served), (2,)))
    ours = {name.rpartition(", ")[2]: row["ours"] for name, row in rows.items()}
    assert ours == {"bytes": 1.5, "lookups": 1.0, "sparse time": 1.6}


def test_a_shard_that_nobody_asked_takes_no_time():
    manifest = {"shards": [{"name": f"shard-{n}", "bytes": 1, "lookups_per_request": 1.0} for n in range(2)]}
    served = made(manifest=manifest, shards={"calls": {"shard-0": 10}, "sparse_ns": {"shard-0": 70.0}})
    assert balance.shard_loads(served)["sparse time"].tolist() == [70, 0]


def test_batches_multiply_rpcs():
    found = {batches: [(made(rpcs=16.0 * batches), made())] for batches in batching.BATCHES}
    assert batching.rpc_ratios(found) == [batching.RPCS.fact.value]


def test_wider_layers_leave_tables_and_outputs_alone():
    model = model_config("drm1-mini")
    wide = compute.wider(model, 4)
    assert wide.tables == model.tables and [net.outputs for net in wide.nets] == [net.outputs for net in model.nets]
    assert wide.nets[1].bottom_mlp == (2048, 1024) and wide.nets[1].top_mlp == (2048, 1024, 1)


def test_a_request_must_be_a_hundred_times_what_rpcs_add():
    repeat = {"singular": made(p50_ns=10e6), "measured": made(p50_ns=12e6)}
    assert compute.added(repeat, "measured", 50) == 2e6
    assert compute.length_ns(2e6) == pytest.approx(200e6)


def test_fewer_bits_move_scores_further():
    with exported("tiny", 1) as folder:
        rankers = {kind: load_model(folder, kind) for kind in compression.TYPES}
        by_type = [compression.score_error(rankers, kind, 8, seed=0) for kind in compression.TYPES]
        rows = rankers["fp32"].table_bytes / 64
        sizes = [rankers[kind].table_bytes / rows for kind in compression.TYPES]
    assert by_type[0] == 0 < by_type[1] < by_type[2] < 0.1
    assert sizes[0] == 64 and sizes[2] == 12


def test_the_peak_is_the_rate_of_loadgens_last_test():
    report = {"result_completed_samples_per_sec": 121.7}
    assert throughput.peak_qps(made(manifest={"results": {"loadgen": report}})) == 121.7


def test_without_loadgen_the_rates_are_missing_and_say_why(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    part = throughput.run("tiny", range(1), said)
    assert [row["verdict"].startswith("not testable here: LoadGen is not installed") for row in part.rows] == [True] * 2
