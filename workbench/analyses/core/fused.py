"""Which operators a compiled kernel stands for: Inductor names its Triton kernels after the operators that it fused.

`triton_poi_fused__to_copy_add_cos_0` is a pointwise kernel of aten::_to_copy, aten::add and aten::cos. Operators' names
hold underscores themselves, so the text is cut where the longest operator known to `workbench.costs` fits.
"""

import re
from functools import cache

from workbench.costs import model_of

# Kind (poi, red, per...), operators, number; Triton once added which arguments it specialised on ("0d1d2de").
_INDUCTOR = re.compile(r"triton_[a-z]{3}_fused_(?P<operators>\w+?)_\d+(?:d[0-9a-z]*)?$")


@cache
def fused_operators(kernel: str) -> str:
    """'aten::add + aten::cos' for the name of an Inductor kernel, "" for any other."""
    found = _INDUCTOR.match(kernel)
    return " + ".join(_split(found["operators"].split("_"))) if found else ""


def _split(words: list[str]) -> list[str]:
    """Names of operators, the longest known one at each place; words between known ones make one name."""
    operators, unknown = [], []
    while words:
        fits = (n for n in range(len(words), 0, -1) if model_of(f"aten::{'_'.join(words[:n])}") is not None)
        if length := next(fits, 0):
            operators += [unknown, words[:length]]
            unknown, words = [], words[length:]
        else:
            unknown, words = [*unknown, words[0]], words[1:]
    return [f"aten::{'_'.join(name)}" for name in [*operators, unknown] if name]
