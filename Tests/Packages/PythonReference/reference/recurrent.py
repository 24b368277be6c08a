"""arithmetic.md, "Recurrent"."""

import numpy as np

from .arithmetic import F, apply, canonical, clamp, decode, fma
from .errors import RunError, require
from .operation import all_known, equal_axes, equal_shapes, float32, require_float32
from .quantization import quantize_rows
from .types import FLOAT32, INT8, INT32, PER_CHANNEL, PER_TENSOR, Weights

SIMPLE, GRU, GRU_RESET_AFTER, LSTM, LSTM_COUPLED = range(5)
GATES = {SIMPLE: 1, GRU: 3, GRU_RESET_AFTER: 3, LSTM: 4, LSTM_COUPLED: 4}
FUNCTION_COUNTS = {SIMPLE: 1, GRU: 2, GRU_RESET_AFTER: 2, LSTM: 3, LSTM_COUPLED: 3}
FORWARD, REVERSE, BIDIRECTIONAL = range(3)


class Recurrent:
    inputs = 3, 10

    @staticmethod
    def types(a, x, weights, recurrence, bias, lengths, first_h, first_c, peepholes, weight_scales, recurrence_scales):
        gates, directions = GATES[a.cell], 2 if a.direction == BIDIRECTIONAL else 1
        long_short = a.cell in (LSTM, LSTM_COUPLED)
        require_float32(x, bias, first_h, first_c, peepholes, weight_scales, recurrence_scales)
        require(x.rank == 3 and weights.rank == 2 and recurrence.rank == 2, 'a recurrent layer of other axes')
        steps, batch, width = x.axes
        width = equal_axes(width, weights.axes[1], 'inputs of a recurrent layer')
        hidden = recurrence.axes[1]
        require(all_known(weights.axes) and all_known(recurrence.axes), 'a recurrent layer with weights of unknown shape')
        require(1 <= hidden < 1 << 31 and 1 <= width < 1 << 31, 'a recurrent layer without units or inputs')
        rows = directions * gates * hidden
        equal_axes(weights.axes[0], rows, 'rows of weights')
        equal_axes(recurrence.axes[0], rows, 'rows of recurrence weights')
        codes = weights.type.element == INT8
        require(weights.type.element == recurrence.type.element, 'weights of two types')
        for matrix, scales in (weights, weight_scales), (recurrence, recurrence_scales):
            if not codes:
                require(matrix.is_plain(FLOAT32) and scales is None, 'weights of another type')
                continue
            quantization = matrix.quantization
            require(isinstance(quantization, Weights) and scales is not None, 'weights without scales')
            require(quantization.granularity == PER_TENSOR
                    or quantization.granularity == PER_CHANNEL and quantization.axis == 0,
                    'scales of recurrent weights along another axis')
            equal_shapes(scales.axes, (1,) if quantization.granularity == PER_TENSOR else (rows,), 'scales')
        require(not codes or a.inputs == 1, 'codes are multiplied by inputs that are none')
        if bias is not None:
            equal_shapes(bias.axes, (directions, 2 * gates * hidden), 'bias')
        if lengths is not None:
            require(lengths.is_plain(INT32), 'lengths are not int32')
            batch, = equal_shapes(lengths.axes, (batch,), 'lengths')
        for state in first_h, first_c:
            if state is not None:
                _, batch, _ = equal_shapes(state.axes, (directions, batch, hidden), 'a first state')
        if peepholes is not None:
            equal_shapes(peepholes.axes, (directions, 3 * hidden), 'peepholes')
        require(long_short or first_c is None and peepholes is None, 'a cell without a state of its own has one')
        require(len(a.functions) == FUNCTION_COUNTS[a.cell] * directions, f'{len(a.functions)} functions')
        require(a.clip is None or a.clip > 0, f'a clip of {a.clip}')
        state = float32((directions, batch, hidden))
        return [float32((steps, directions, batch, hidden)), state] + ([state] if long_short else [])

    @staticmethod
    def run(a, outputs, x, weights, recurrence, bias, lengths, first_h, first_c, peepholes, weight_scales,
            recurrence_scales):
        steps, directions, batch, hidden = outputs[0].axes
        gates = GATES[a.cell]
        rows = gates * hidden
        if lengths is None:
            lengths = np.full(batch, steps, np.int32)
        else:
            lengths = lengths.elements
            require(((0 <= lengths) & (lengths <= steps)).all(), 'a length outside the steps', RunError)

        def first(state):
            return np.zeros((directions, batch, hidden), F) if state is None else state.elements.copy()

        y, all_h, all_c = np.zeros(outputs[0].axes, F), first(first_h), first(first_c)
        for d in range(directions):
            block = slice(d * rows, (d + 1) * rows)
            functions = a.functions[d * FUNCTION_COUNTS[a.cell]:][:FUNCTION_COUNTS[a.cell]]
            cell = Cell(a, hidden, functions,
                        Matrix(a, recurrence, recurrence_scales, block),
                        None if bias is None else bias.elements[d, rows:],
                        None if peepholes is None else peepholes.elements[d])
            products = Matrix(a, weights, weight_scales, block).times(x.elements)
            if bias is not None:
                products = products + bias.elements[d, :rows]
            h, c = all_h[d], all_c[d]
            backward = a.direction == REVERSE or d == 1
            for s in range(steps):
                running = np.nonzero(s < lengths)[0]
                if not len(running):
                    break
                times = lengths[running] - 1 - s if backward else np.full(len(running), s)
                h[running], c[running] = cell.step(products[times, running], h[running], c[running])
                y[times, d, running] = h[running]
        return [y, all_h] + ([all_c] if len(outputs) == 3 else [])


class Matrix:
    """Rows of W or R."""

    def __init__(self, a, matrix, scales, block):
        self.rounds = a.inputs == 1
        self.rows = matrix.elements[block]
        self.scales = None if scales is None else scales.elements
        if self.scales is not None and len(self.scales) > 1:
            self.scales = self.scales[block]

    def times(self, v, rows=slice(None)):
        """(84): the last axis of v by each row."""
        matrix, scales = self.rows[rows], self.scales
        if scales is not None and len(scales) > 1:
            scales = scales[rows]
        if self.rounds:
            codes, scale, zero = quantize_rows(v)
            if scales is not None:
                acc = (codes.astype(np.float64) - zero) @ matrix.astype(np.float64).T
                return acc.astype(np.int64).astype(np.int32).astype(F) * (scale * scales)
            v = decode(codes, scale, zero)
        acc = np.zeros((*v.shape[:-1], len(matrix)), F)
        for k in range(v.shape[-1]):
            acc = fma(v[..., k, None], matrix[:, k], acc)
        return acc


class Cell:
    def __init__(self, a, hidden, functions, recurrence, bias, peepholes):
        self.kind, self.clip, self.hidden, self.functions = a.cell, a.clip, hidden, functions
        self.recurrence, self.bias, self.peepholes = recurrence, bias, peepholes

    def gate(self, function, y):
        """(86)"""
        if self.clip is not None:
            y = clamp(y, -F(self.clip), F(self.clip))
        return apply(self.functions[function], y)

    def rows(self, gate):
        return slice(gate * self.hidden, (gate + 1) * self.hidden)

    def recurrent(self, v, rows=slice(None)):
        """b of (85), of some rows."""
        b = self.recurrence.times(v, rows)
        return b if self.bias is None else b + self.bias[rows]

    def peep(self, sum, gate, c):
        return sum if self.peepholes is None else sum + self.peepholes[self.rows(gate)] * c

    def step(self, a, h, c):
        def of(v, gate):
            return v[..., self.rows(gate)]
        if self.kind == SIMPLE:   # (87)
            b = self.recurrent(h)
            return canonical(self.gate(0, b + a)), c
        if self.kind in (GRU, GRU_RESET_AFTER):   # (88)
            b = self.recurrent(h, slice(0, (2 if self.kind == GRU else 3) * self.hidden))
            z = self.gate(0, of(b, 0) + of(a, 0))
            r = self.gate(0, of(b, 1) + of(a, 1))
            if self.kind == GRU:
                n = self.gate(1, self.recurrent(r * h, self.rows(2)) + of(a, 2))
            else:
                n = self.gate(1, r * of(b, 2) + of(a, 2))
            return canonical((F(1) - z) * n + z * h), c
        b = self.recurrent(h)   # (89)
        i = self.gate(0, self.peep(of(b, 0) + of(a, 0), 0, c))
        if self.kind == LSTM:
            j = self.gate(0, self.peep(of(b, 2) + of(a, 2), 2, c))
        else:
            j = F(1) - i
        c = canonical(j * c + i * self.gate(1, of(b, 3) + of(a, 3)))
        o = self.gate(0, self.peep(of(b, 1) + of(a, 1), 1, c))
        return canonical(o * apply(self.functions[2], c)), c
