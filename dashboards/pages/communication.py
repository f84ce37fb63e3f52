"""Communication: what collectives cost, at what bandwidth, and who keeps the others waiting."""

from dashboards.page import analysis_page

page = analysis_page(
    "communication",
    path="/communication",
    title="Communication",
    question="Do the ranks move data, or wait for each other?",
    options=("by",),
    key_figures=(
        "shared_pct", "duration_ns", "transfer_ns", "wait_ns", "exposed_ns", "overlapped_ns", "bytes", "collectives",
        "clock_residual_ns",
    ),
    first_columns=(),
)  # fmt: skip
