"""The models of the paper's Table 3, and how its cluster is built: what several parts compare with."""

from dataclasses import dataclass

from workbench.embeddings.tables import TableConfig

GPUS, GPUS_A_NODE = 128, 8  # in 16 nodes
FP16_BYTES = 2


@dataclass(frozen=True, kw_only=True)
class Model:
    """Parameters and forward MFLOPs a sample as printed; the number of tables stands for ~1000s, ~10s and ~100s."""

    name: str
    parameters: float
    mflops_per_sample: float
    tables: int
    dim: int
    pooling: float
    samples_per_gpu: int

    def table_configs(self, rows: int) -> tuple[TableConfig, ...]:
        """Its tables at the mean width and pooling, each of `rows` rows."""
        return tuple(
            TableConfig(name=f"table_{number}", rows=rows, dim=self.dim, pooling_factor=self.pooling)
            for number in range(self.tables)
        )


# Parameters and MFLOPs are read in the paper; tables, width, pooling and batch are from memory, and only feed formulas.
MODEL_A = Model(
    name="Model-A", parameters=793e9, mflops_per_sample=638, tables=1000, dim=93, pooling=15, samples_per_gpu=512
)
MODEL_F = Model(
    name="Model-F", parameters=12e12, mflops_per_sample=5, tables=10, dim=256, pooling=20, samples_per_gpu=512
)
MODEL_I = Model(
    name="Model-I", parameters=332e9, mflops_per_sample=60, tables=100, dim=92, pooling=70, samples_per_gpu=2048
)
MODELS = (MODEL_A, MODEL_F, MODEL_I)
