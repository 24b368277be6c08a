"""All families of operations, by name."""

from . import elementwise, loops, movement, products, quantization, recurrent, reductions, resize
from .attributes import ATTRIBUTES
from .errors import require
from .operation import Operand

FAMILIES = {
    name: next((getattr(module, name) for module in
                (products, recurrent, elementwise, reductions, movement, loops, resize, quantization)
                if hasattr(module, name)), None)
    for name, _ in ATTRIBUTES.values()
}
assert all(FAMILIES.values())


def operands(family, inputs):
    """The operands of a family's methods from types and elements: None for optional inputs that are absent.

    Of a family with any number of inputs all must be there, unless its own rule says which."""
    least, most = family.inputs
    require(most is None or len(inputs) <= most, f'{family.__name__} has {len(inputs)} inputs')
    inputs = list(inputs) + [None] * ((most or len(inputs)) - len(inputs))
    require(len(inputs) >= least and all(x is not None for x in inputs[:None if least and not most else least]),
            f'{family.__name__} lacks an input')
    return [None if x is None else Operand(*x) for x in inputs]
