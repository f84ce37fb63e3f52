"""Roofline: every operator against the ceilings of the machine it ran on."""

from dashboards.page import analysis_page

page = analysis_page(
    "roofline",
    path="/roofline",
    title="Roofline",
    question="What bounds this run?",
    options=("rank",),
    key_figures=(
        "covered_time_share", "busy_per_step_ns", "step_bound_ns", "headroom_per_step_ns", "beyond_roof_time_share",
        "steps", "active_ranks", "threads_per_rank",
    ),
    first_columns=(
        "name", "shapes", "calls", "duration_per_step_ns", "time_share", "bound", "headroom_share", "intensity",
        "flops_per_s", "bytes_per_s", "roof_flops_per_s", "roof_bytes_per_s",
    ),
)  # fmt: skip
