"""How much each scale of the study does."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """`models` are cut in every way over `shards`, the first one also in the other parts. Each deployment answers
    `requests` of `items` each, which are enough for `percentiles`, for every seed anew."""

    models: tuple[str, ...]
    rows_factor: float
    shards: tuple[int, ...]
    requests: int
    warmup_requests: int
    items: int
    percentiles: tuple[float, ...]

    @property
    def load(self) -> dict[str, int]:
        """Settings of the inference workload: what is asked of a deployment."""
        return {"requests": self.requests, "warmup_requests": self.warmup_requests, "items": self.items}


_DRM = ("drm1-mini", "drm2-mini", "drm3-mini")
SCALES = {
    "tiny": Scale(
        models=("tiny",), rows_factor=1, shards=(2, 3), requests=8, warmup_requests=2, items=8, percentiles=(50,)
    ),
    # DRM2 is shaped like DRM1.
    "small": Scale(
        models=(_DRM[0], _DRM[2]), rows_factor=1, shards=(2, 4, 8), requests=30, warmup_requests=6, items=32,
        percentiles=(50, 90),
    ),
    "full": Scale(
        models=_DRM, rows_factor=10, shards=(2, 4, 8), requests=10_000, warmup_requests=100, items=32,
        percentiles=(50, 90, 99),
    ),
}  # fmt: skip
