"""The pages of single analyses: a question each, its key figures and, of long rows, the columns to read first.

Path and title follow from the analysis's name, its controls from its signature.
"""

from dashboards.page import analysis_page

_TIME, _BYTES, _RANKS, _SERVING = "Where time goes", "Where bytes are", "Between ranks", "Serving"

PAGES = (
    analysis_page(
        "roofline",
        group=_TIME,
        question="What bounds this run?",
        key_figures=(
            "covered_time_share", "busy_per_step_ns", "step_bound_ns", "headroom_per_step_ns", "beyond_roof_time_share",
            "steps", "active_ranks", "threads_per_rank",
        ),
        first_columns=(
            "name", "shapes", "calls", "duration_per_step_ns", "time_share", "bound", "headroom_share", "intensity",
            "flops_per_s", "bytes_per_s", "roof_flops_per_s", "roof_bytes_per_s",
        ),
    ),
    analysis_page(
        "critical_path",
        group=_TIME,
        question="What does the length of a step hang on?",
        key_figures=(
            "step_ns", "compute_share", "memory_share", "communication_share", "wait_share", "recorded_share",
            "ranks_visited", "rank_switches", "length_ns", "length_after_ns", "saved_pct",
        ),
    ),
    analysis_page(
        "kernels",
        group=_TIME,
        question="Which kernels take the device's time, and are they worth their launch?",
        key_figures=(
            "duration_ns", "calls", "kernel_names", "launch_overhead_ns", "short_share", "short_time_share",
            "delay_p50_ns", "delay_p95_ns", "queued_share",
        ),
    ),
    analysis_page(
        "stacks",
        group=_TIME,
        question="Which code are the host's threads in?",
        key_figures=("samples", "interval_ns", "sampled_ns", "processes", "threads", "distinct_stacks"),
    ),
    analysis_page(
        "memory_tiers",
        group=_BYTES,
        question="Where does memory traffic go?",
        key_figures=(
            "memory_share", "lookup_hit_share", "unique_row_hit_share", "cache_rows", "cache_bytes",
            "embedding_predicted_ns", "embedding_measured_ns", "predicted_over_measured", "counted_steps",
        ),
    ),
    analysis_page(
        "memory",
        group=_BYTES,
        question="How much memory is held at the peak, and by whom?",
        key_figures=(
            "peak_allocated_bytes", "peak_reserved_bytes", "peak_device", "peak_phase", "peak_after_ns", "top_holder",
            "top_holder_bytes", "seen_share",
        ),
    ),
    analysis_page(
        "communication",
        group=_RANKS,
        question="Do the ranks move data, or wait for each other?",
        key_figures=(
            "shared_pct", "duration_ns", "transfer_ns", "wait_ns", "exposed_ns", "overlapped_ns", "bytes",
            "collectives", "clock_residual_ns",
        ),
    ),
    analysis_page(
        "sharding",
        group=_RANKS,
        question="How evenly do the embedding tables load the ranks?",
        key_figures=(
            "ranks", "shards", "max_over_mean", "measured_max_over_mean", "predicted_over_measured",
            "communication_share", "sent_bytes",
        ),
    ),
    analysis_page(
        "latency",
        group=_SERVING,
        question="What does a request's time go into?",
        key_figures=(
            "requests", "failed_requests", "rpcs_per_request", "dense_share", "embedded_share", "serialization_share",
            "network_share", "cpu_ns", "echo_p50_ns", "cpu_overhead_pct",
        ),
    ),
)  # fmt: skip
