"""Memory tiers: where the bytes of a step come from, and what another hierarchy would change."""

from dashboards.page import analysis_page

page = analysis_page(
    "memory_tiers",
    path="/memory-tiers",
    title="Memory tiers",
    question="Where does memory traffic go?",
    options=("by", "cache_rows", "last_level_bytes", "memory_bytes_per_s", "backing_bytes_per_s"),
    key_figures=(
        "memory_share", "lookup_hit_share", "unique_row_hit_share", "cache_rows", "cache_bytes",
        "embedding_predicted_ns", "embedding_measured_ns", "predicted_over_measured", "counted_steps",
    ),
    first_columns=(),
)  # fmt: skip
