"""Parameters and work a sample: the paper's models beside this workbench's presets, counted."""

from collections.abc import Sequence

from workbench.studies.core.criteria import Within
from workbench.studies.core.curves import Curve
from workbench.studies.core.facts import Fact
from workbench.studies.core.parts import Part, Say
from workbench.studies.core.quantities import Quantity, row
from workbench.studies.neo_parts.paper import MODEL_F, MODELS, Model
from workbench.workloads.training.config import PRESETS
from workbench.workloads.training.manifest import describe, model_flops

PARAMETERS, MFLOPS = "parameters", "MFLOP a sample, forward"


def run(scale: str, seeds: Sequence[int], say: Say) -> Part:
    """Every preset of the training workload, and the paper's three models."""
    names: dict[tuple[float, float], list[str]] = {}  # presets of equal models are one point
    for preset in PRESETS:
        names.setdefault(counted(preset), []).append(preset)
    points = [
        {"label": ", ".join(equal), PARAMETERS: parameters, MFLOPS: mflops}
        for (parameters, mflops), equal in names.items()
    ]
    paper = [{"label": model.name, PARAMETERS: model.parameters, MFLOPS: model.mflops_per_sample} for model in MODELS]
    curve = Curve(
        title="Model capacity and work: the paper's models and this workbench's presets", table=points, x=PARAMETERS,
        y=MFLOPS, style="scatter", log_x=True, log_y=True, source="modelled", paper=paper,
    )  # fmt: skip
    rows = []
    for model in MODELS:
        parameters, mflops = counted(model.name.lower())
        rows += [row(_parameters(model), [parameters], "modelled"), row(_mflops(model), [mflops], "modelled")]
    return Part(rows, [curve])


def counted(preset: str) -> tuple[float, float]:
    """Parameters, and MFLOPs of the forward pass of one sample."""
    config = PRESETS[preset]()
    found = describe(config)
    return found["dense_parameters"] + found["embedding_parameters"], model_flops(config, training=False) / 1e6


def _parameters(model: Model) -> Quantity:
    return Quantity(name=f"{model.name}: parameters", unit="1", scale_free=False, fact=Fact(model.parameters, "src"))


def _mflops(model: Model) -> Quantity:
    """The preset of Model-F keeps all but its rows, so its work is the paper's; the others' are scaled down."""
    full = model is MODEL_F
    return Quantity(
        name=f"{model.name}: MFLOP a sample", unit="MFLOP", scale_free=full, fact=Fact(model.mflops_per_sample, "src"),
        criterion=Within(0.25) if full else None,
    )  # fmt: skip
