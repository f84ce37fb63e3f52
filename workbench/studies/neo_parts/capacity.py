"""How many bytes a parameter takes: what row-wise optimizer state and fp16 rows save (Model-F has 12T parameters)."""

from collections.abc import Sequence

from workbench.embeddings.tables import TableConfig
from workbench.studies.core.criteria import Within
from workbench.studies.core.curves import Curve
from workbench.studies.core.facts import Fact
from workbench.studies.core.parts import Part, Say
from workbench.studies.core.quantities import Quantity, row

DIM = 256  # of Model-F's tables
STATE_SHARE = Quantity(
    name=f"row-wise AdaGrad state over fp32 weights, D = {DIM}", unit="1", scale_free=True,
    fact=Fact(4 / (4 * DIM), "derived: 4 B a row over 4 B an element"), criterion=Within(0.01),
)  # fmt: skip
SAVING = Quantity(
    name="fp32 rows with AdaGrad over fp16 rows with row-wise AdaGrad, bytes", unit="1", scale_free=True,
    fact=Fact(96 / (24 + 0.19), "derived: 96 TB over 24 TB of weights and 0.19 TB of state at 12T parameters"),
    criterion=Within(0.01),
)  # fmt: skip


def run(scale: str, seeds: Sequence[int], say: Say) -> Part:
    """Bytes of tables as this workbench stores them, counted from their configuration."""
    stored = {
        (row_dtype, optimizer): TableConfig(name="t", rows=1, dim=DIM, row_dtype=row_dtype, optimizer=optimizer)
        for row_dtype in ("fp32", "fp16", "int8")
        for optimizer in ("adagrad", "rowwise_adagrad")
    }
    total_bytes = {key: table.row_bytes + table.state_bytes_per_row for key, table in stored.items()}
    rowwise = stored["fp32", "rowwise_adagrad"]
    saving = total_bytes["fp32", "adagrad"] / total_bytes["fp16", "rowwise_adagrad"]
    points = [
        {"rows stored as": row_dtype, "B a parameter": size_bytes / DIM, "optimizer": optimizer}
        for (row_dtype, optimizer), size_bytes in total_bytes.items()
    ]
    curve = Curve(
        title="Bytes a parameter takes with its optimizer state", table=points, x="rows stored as", y="B a parameter",
        colour="optimizer", style="bar", source="modelled",
    )  # fmt: skip
    rows = [
        row(STATE_SHARE, [rowwise.state_bytes_per_row / rowwise.row_bytes], "modelled"),
        row(SAVING, [saving], "modelled"),
    ]
    return Part(rows, [curve])
