"""What does it take to train recommendation models of trillions of parameters fast, without losing quality?

The paper is Mudigere et al., "Software-Hardware Co-design for Fast and Scalable Training of Deep Learning
Recommendation Models", ISCA 2022 (arXiv 2104.05158). Its throughput is of 128 GPUs and cannot be had here; what can is
what does not depend on size: bytes by sharding scheme, balance, what fusion saves, hit rates, quality, exactness.
"""

from workbench.studies.core.parts import Progress, run_parts
from workbench.studies.core.result import StudyResult

SEEDS = 5


def neo(scale: str, seeds: int, progress: Progress) -> StudyResult:
    """Run all parts at `scale`: tiny takes seconds, small some minutes on two cores."""
    # Imported here: who lists studies needs no torch.
    from workbench.studies.neo_parts import (
        balance,
        cache,
        capacity,
        exactness,
        fusion,
        models,
        quality,
        ranks,
        traffic,
        trained_waterfall,
        waterfall,
        wire,
    )

    parts = {
        "models": models.run,
        "traffic": traffic.run,
        "balance": balance.run,
        "capacity": capacity.run,
        "fusion": fusion.run,
        "cache": cache.run,
        "exactness": exactness.run,
        "quality": quality.run,
        "wire": wire.run,
        "ranks": ranks.run,
        "waterfall": waterfall.run,
        "trained waterfall": trained_waterfall.run,
    }
    return run_parts("neo", __doc__.split("\n")[0], parts, scale, seeds, progress)
