"""Stacks: where the host's threads were when a sampler looked."""

from dashboards.page import analysis_page

page = analysis_page(
    "stacks",
    path="/stacks",
    title="Stacks",
    question="Which code are the host's threads in?",
    options=("by",),
    key_figures=("samples", "interval_ns", "sampled_ns", "processes", "threads", "distinct_stacks"),
    first_columns=(),
)  # fmt: skip
