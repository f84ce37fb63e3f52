"""What does it cost to serve a recommendation model that is cut over several servers?

The paper is Lui et al., "Understanding Capacity-Driven Scale-Out Neural Recommendation Inference", ISPASS 2021 (arXiv
2011.02084). Its models take hundreds of gigabytes; ours are shaped like them at a thousandth of their size, so what an
RPC costs weighs far more. Two cores cannot show eight servers at work: beside every measured latency stands one that is
modelled from spans which nothing slowed, as if each server had a core.
"""

from functools import partial

from workbench.studies.core.parts import Progress, run_parts
from workbench.studies.core.result import StudyResult

SEEDS = 3  # each is some sixty deployments


def scaleout(scale: str, seeds: int, progress: Progress) -> StudyResult:
    """Run all parts at `scale`: tiny takes seconds, small minutes on two cores, full hours on a machine of many."""
    # Imported here: who lists studies needs no torch.
    from workbench.studies.scaleout_parts import batching, compression, compute, operators, strategies, throughput
    from workbench.studies.scaleout_parts.scales import SCALES

    parts = {
        "operators": operators.run,
        **{f"strategies, {model}": partial(strategies.run, model) for model in SCALES[scale].models},
        "batching": batching.run,
        "compute": compute.run,
        "compression": compression.run,
        "throughput": throughput.run,
    }
    return run_parts("scaleout", __doc__.split("\n")[0], parts, scale, seeds, progress)
