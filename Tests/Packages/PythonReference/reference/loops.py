"""arithmetic.md, "Loop"."""

import math

import numpy as np

from .errors import Malformed, RunError, require
from .operation import ANY_AXIS, all_known
from .types import BOOL, ELEMENT_LIMIT, INT32, INT64, DynamicAxis, Type


def check_single(operand, element, what):
    if operand is not None:
        require(operand.is_plain(element) and all(axis == 1 or not isinstance(axis, int) for axis in operand.axes),
                f'the {what} is not one number')


def depth(nodes):
    return 1 + max((depth(a.nodes) for operation, a, _, _ in nodes if operation == 'Loop'), default=0)


class Loop:
    inputs = 0, None

    @staticmethod
    def types(a, *inputs):
        from .operations import FAMILIES, operands
        require(0 <= a.carried <= len(a.results) and len(inputs) >= 2 + a.carried, 'operands of a loop')
        require(depth(a.nodes) <= 4, 'loops within each other, too deep')
        check_single(inputs[0], INT64, 'number of iterations')
        check_single(inputs[1], BOOL, 'condition')
        require(all(x is not None and x.quantization is None for x in inputs[2:]), 'a value of a loop')
        given = [x.type for x in inputs[2:2 + a.carried]]
        carried, rounds = list(given), 0
        while True:
            values = [(Type(INT64, None, ()), None)] + [(type, None) for type in carried]
            values += [(x.type, x.elements) for x in inputs[2 + a.carried:]]
            for operation, attributes, numbers, count in a.nodes:
                require(all(n is None or 0 <= n < len(values) for n in numbers), 'a value of the body')
                family = FAMILIES[operation]
                node = operands(family, [None if n is None else values[n] for n in numbers])
                types = family.types(attributes, *node)
                require(len(types) == count and all(type.quantization is None for type in types),
                        'outputs of a node of the body')
                values += zip(types, elements_of(family, attributes, node, types))
            require(all(0 <= n < len(values) for n in a.results), 'a result of the body')
            returned = [values[n][0] for n in a.results]
            joined = [join(x, y) for x, y in zip(carried, returned)]
            if rounds > 3:
                joined = [x if x == y else x.with_axes([ANY_AXIS] * x.rank) for x, y in zip(joined, carried)]
            rounds += 1
            if joined == carried:
                break
            carried = joined
        if a.condition is not None:
            require(0 <= a.condition < len(values), 'the condition of the body')
            type = values[a.condition][0]
            require(type.element == BOOL and type.quantization is None
                    and all(axis == 1 or not isinstance(axis, int) for axis in type.axes), 'the condition of the body')
        count = ANY_AXIS
        if a.condition is None and inputs[0] is not None and inputs[0].elements is not None:
            if inputs[1] is None or inputs[1].elements is not None:
                holds = inputs[1] is None or bool(inputs[1].elements.reshape(())[()])
                count = max(int(inputs[0].elements.reshape(())[()]), 0) if holds else 0
        return ([join(x, y) for x, y in zip(given, returned)]
                + [type.with_axes((count, *type.axes)) for type in returned[a.carried:]])

    @staticmethod
    def run(a, outputs, *inputs):
        from .operations import FAMILIES, operands
        count = None if inputs[0] is None else int(inputs[0].elements.reshape(())[()])
        holds = inputs[1] is None or bool(inputs[1].elements.reshape(())[()])
        given = [x.elements for x in inputs[2:]]
        carried, outside = given[:a.carried], given[a.carried:]
        plain = [x.type for x in inputs[2:]]
        stacks, iteration = [[] for _ in a.results[a.carried:]], 0
        while holds and (count is None or iteration < count):
            values = [(Type(INT64, None, ()), np.array(iteration, np.int64))]
            values += [(type.with_axes(x.shape), x) for type, x in zip(plain, carried + outside)]
            for operation, attributes, numbers, _ in a.nodes:
                family = FAMILIES[operation]
                values += results(family, operation, attributes, operands(
                    family, [None if n is None else values[n] for n in numbers]))
            carried = [values[n][1] for n in a.results[:a.carried]]
            for stack, number in zip(stacks, a.results[a.carried:]):
                array = values[number][1]
                require(not stack or stack[0].shape == array.shape, 'results of different shapes', RunError)
                stack.append(array)
            if a.condition is not None:
                holds = bool(values[a.condition][1].reshape(())[()])
            iteration += 1
        stacked = [
            np.stack(stack) if stack else
            np.empty((0, *[axis if isinstance(axis, int) else 0 for axis in type.axes[1:]]), type.dtype)
            for stack, type in zip(stacks, outputs[a.carried:])]
        return carried + stacked


def elements_of(family, attributes, inputs, types):
    """The elements of outputs that are known before the run: integers and bools from known operands."""
    unknown = [None] * len(types)
    if not all(type.element in (INT32, INT64, BOOL) for type in types) or family is Loop:
        return unknown
    if family.__name__ == 'Shape':
        first, last = family.range(attributes, inputs[0].rank)
        return family.run(attributes, types, *inputs) if all_known(inputs[0].axes[first:last]) else unknown
    if not all(x is None or x.elements is not None for x in inputs) or not all(all_known(x.axes) for x in types):
        return unknown
    if sum(math.prod(type.axes) * type.dtype.itemsize for type in types) > 1 << 16:
        return unknown
    try:
        return family.run(attributes, types, *inputs)
    except RunError:
        return unknown


def join(a, b):
    require(a.element == b.element and a.quantization == b.quantization and a.rank == b.rank,
            'a carried value of two types')
    return a.with_axes([x if x == y else ANY_AXIS for x, y in zip(a.axes, b.axes)])


def results(family, operation, attributes, inputs):
    """Types and arrays of the outputs of a node in a run."""
    try:
        types = family.types(attributes, *inputs)
    except Malformed as error:
        raise RunError(f'{operation}: {error}') from error
    if family is Loop:
        arrays = family.run(attributes, types, *inputs)
        return [(type.with_axes(array.shape), array) for type, array in zip(types, arrays)]
    for type in types:
        require(not any(isinstance(axis, DynamicAxis) for axis in type.axes), f'{operation}: an unknown extent', RunError)
        require(math.prod(type.axes) <= ELEMENT_LIMIT, f'{operation}: too many elements', RunError)
    if all(0 in type.axes for type in types):
        return [(type, np.empty(type.axes, type.dtype)) for type in types]
    return list(zip(types, family.run(attributes, types, *inputs), strict=True))
