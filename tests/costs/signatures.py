"""Short names for the arguments of a call, as a profiler writes them."""

from workbench.costs import Cost, cost

Argument = tuple[list, str, str]


def tensor(*shape: int, dtype: str = "float") -> Argument:
    """A tensor of fp32, or of the C++ type named."""
    return list(shape), dtype, ""


def index(*shape: int) -> Argument:
    """A tensor of int64."""
    return tensor(*shape, dtype="long int")


def tensors(*shapes: tuple[int, ...]) -> Argument:
    """A list of tensors: its dtypes are not recorded."""
    return [list(shape) for shape in shapes], "TensorList", ""


def value(given: object) -> Argument:
    """A number, bool or list with its concrete value."""
    return [], "ScalarList" if isinstance(given, list) else "Scalar", str(given)


NONE: Argument = [], "", ""


def cost_of(name: str, *arguments: Argument) -> Cost | None:
    """The cost of a call with these arguments."""
    dims, types, concrete = zip(*arguments, strict=True) if arguments else ((), (), ())
    return cost(name, list(dims), list(types), list(concrete))
