"""Running a program: what "Dynamic axes" and "Errors of a run" of arithmetic.md say."""

import numpy as np

from . import rules
from .arithmetic import without_warnings
from .container import Container
from .errors import RunError, require
from .loops import results
from .operations import FAMILIES, operands
from .structure import read_program
from .types import BOOL, DynamicAxis


class Model:
    @without_warnings
    def __init__(self, file):
        """Reads and checks the bytes of a file."""
        self.container = Container(file)
        self.program = read_program(self.container)
        rules.check(self.program)
        self.producers = {value: node for node in self.program.nodes for value in node.outputs}

    @property
    def inputs(self):
        """The types of the inputs by name."""
        return dict(zip(self.program.input_names, self.program.types))

    @without_warnings
    def run(self, inputs):
        """Outputs by name, for arrays by the names of the inputs."""
        run = Run(self, inputs)
        for _, value in self.program.outputs:
            run.compute(value)
        return {name: run.elements[value] for name, value in self.program.outputs}


class Run:
    def __init__(self, model, inputs):
        self.program, self.producers = model.program, model.producers
        self.elements = dict(self.program.constants)
        self.extents = {}   # of dynamic axes with a name
        require(inputs.keys() == set(self.program.input_names), 'an input is missing, or has no place', RunError)
        for value, name in enumerate(self.program.input_names):
            array, declared = np.asarray(inputs[name]), self.program.types[value]
            if array.dtype == np.bool_:
                array = array.astype(np.uint8)
            require(array.dtype == declared.dtype, f'input {name!r} is {array.dtype}, not {declared.dtype}', RunError)
            require(declared.element != BOOL or (array <= 1).all(), f'input {name!r} is neither 0 nor 1', RunError)
            self.keep(value, array)

    def keep(self, value, array):
        """Checks the shape against the declared one."""
        axes = self.program.types[value].axes
        require(len(axes) == array.ndim, f'value {value} has {array.ndim} axes, not {len(axes)}', RunError)
        for axis, extent in zip(axes, array.shape):
            expected = axis
            if isinstance(axis, DynamicAxis):
                expected = self.extents.setdefault(axis.number, extent) if axis.number else extent
            require(extent == expected, f'value {value} has the shape {array.shape}, not {axes}', RunError)
        self.elements[value] = array

    def compute(self, value):
        """Computes a value, and first what it needs. (Not recursive: chains of nodes may be long.)"""
        waiting = [value]
        while waiting:
            value = waiting[-1]
            if value in self.elements:
                waiting.pop()
                continue
            node = self.producers[value]
            missing = [operand for operand in self.needed(node) if operand not in self.elements]
            waiting += missing
            if not missing:
                self.run(node)

    def needed(self, node):
        """The operands that a node needs: of an If, the condition, and then the input that it chooses."""
        if node.operation != 'If':
            return [value for value in node.inputs if value is not None]
        condition, when_true, when_false = node.inputs
        if condition not in self.elements:
            return [condition]
        require(self.elements[condition].size == 1, 'a condition of several elements', RunError)
        return [when_true if self.elements[condition].reshape(())[()] else when_false]

    def run(self, node):
        if node.operation == 'If':
            chosen, = self.needed(node)
            self.keep(node.outputs[0], self.elements[chosen])
            return
        family = FAMILIES[node.operation]
        inputs = operands(family, [
            None if value is None else
            (self.program.types[value].with_axes(self.elements[value].shape), self.elements[value])
            for value in node.inputs])
        for value, (type, array) in zip(node.outputs, results(family, node.operation, node.attributes, inputs), strict=True):
            assert array.shape == type.axes and array.dtype == type.dtype, (node.operation, array.dtype, array.shape, type)
            self.keep(value, array)
