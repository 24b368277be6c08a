import QMOperations
import QMTensor

/// One step of a recurrent layer, recognized among the nodes of a loop's body.
///
/// Given: nodes that compute the states h and c after an iteration from those before it and from an
/// input x, in one of these forms, where f, g and k are functions that ONNX knows for recurrent
/// layers or none, sums are in any order, and the gates may be columns of joined products:
///
///     h' = f(x·W + h·R + b)
///
///     h' = z·h + (1 − z)·n        or  n + z·(h − n)
///     n  = g(x·W + (r·h)·R + b)   or  g(x·W + r·(h·R + b) + b)
///     z  = f(x·W + h·R + b)           r = f(x·W + h·R + b)
///
///     c' = j·c + i·g(x·W + h·R + b)   h' = o·k(c')          i, j, o as z
///
/// With a mask m, the states after an iteration are those of the step where m is true, else those
/// before: `select(m, h', h)` or `m·h' + (1 − m)·h`. Then another state may be a copy of h.
///
/// Result: the cell of ``Recurrent`` with the same states, up to float rounding: sums are added in
/// another order.
package struct RecurrentBody {
  /// A value that an iteration hands to the next.
  package struct State {
    /// As an iteration reads it.
    package let before: Graph.ValueID
    /// As it returns it.
    package let after: Graph.ValueID

    package init(before: Graph.ValueID, after: Graph.ValueID) {
      self.before = before
      self.after = after
    }
  }

  /// Consecutive rows of a constant matrix of the body.
  package struct Rows: Hashable {
    package let matrix: Graph.ValueID
    package var range: Range<Int>
  }

  package let cell: Recurrent.Cell
  /// The functions of one direction.
  package let functions: [UnaryFunction]
  /// x: the value of the body that the weights multiply, `[B, I]`.
  package let input: Graph.ValueID
  /// Index of the state h.
  package let hidden: Int
  /// Index of the state c; nil for a cell without it.
  package let cellState: Int?
  /// Indices of the states that are h in each iteration if they are before the first.
  package let copies: [Int]
  /// m, `[B, 1]`; nil if each step changes the states.
  package let mask: Graph.ValueID?
  /// Rows of the weights, gate after gate in the order of ``Recurrent``.
  package let weights: [Rows]
  /// The same for the recurrence.
  package let recurrence: [Rows]
  /// `2·G·H` numbers: Wb, then Rb; nil if there are none.
  package let bias: [Float]?

  /// nil if the body computes anything else.
  package init?(_ graph: Graph, states given: [State]) {
    // A layer has two states at most, and a copy of h.
    guard given.count <= 3 else { return nil }
    let matching = Matching(graph)
    let selections = given.compactMap { Selection($0, matching) }
    let isMasked = !selections.isEmpty
    guard !isMasked || selections.count == given.count,
      selections.allSatisfy({ $0.mask == selections[0].mask })
    else { return nil }
    let states = isMasked ? selections.map(\.state) : given
    for hidden in states.indices {
      let matcher = Matcher(matching: matching, hidden: states[hidden].before)
      for cellState in [nil] + states.indices.map(Optional.some) where cellState != hidden {
        let copies = states.indices.filter { $0 != hidden && $0 != cellState }
        guard copies.allSatisfy({ isMasked && states[$0].after == states[hidden].after }) else {
          continue
        }
        let found =
          if let cellState {
            matcher.lstm(h: states[hidden].after, c: states[cellState])
          } else {
            matcher.gru(states[hidden].after) ?? matcher.simple(states[hidden].after)
          }
        guard let found, let assembled = Assembled(found) else { continue }
        cell = found.cell
        functions = found.functions
        input = assembled.input
        self.hidden = hidden
        self.cellState = cellState
        self.copies = copies
        mask = selections.first?.mask
        weights = assembled.weights
        recurrence = assembled.recurrence
        bias = assembled.bias
        return
      }
    }
    return nil
  }

  /// A state that a mask keeps as it was.
  private struct Selection {
    let mask: Graph.ValueID
    /// The state as the step computes it.
    let state: State

    init?(_ state: State, _ matching: Matching) {
      guard let node = matching.producer(of: state.after) else { return nil }
      if case .select = node.operation {
        guard let mask = node.input(0), let new = node.input(1), node.input(2) == state.before
        else { return nil }
        self.mask = mask
        self.state = State(before: state.before, after: new)
        return
      }
      for (one, other) in matching.pairs(state.after, of: .add) {
        for (flag, new) in matching.pairs(one, of: .multiply) {
          for (complement, old) in matching.pairs(other, of: .multiply) where old == state.before {
            guard let mask = Self.flags(flag, matching), let not = Self.flags(complement, matching),
              let inverse = matching.producer(of: not), case .logic(let logic) = inverse.operation,
              logic.function == .exclusiveOr, inverse.input(0) == mask,
              let truth = inverse.input(1).flatMap({ matching.graph[$0].constant }),
              truth.elementType == .bool, truth.elementCount == 1, truth.elements(as: Bool.self)[0]
            else { continue }
            self.mask = mask
            self.state = State(before: state.before, after: new)
            return
          }
        }
      }
      return nil
    }

    /// The bools that `value` is as 0 and 1.
    private static func flags(_ value: Graph.ValueID, _ matching: Matching) -> Graph.ValueID? {
      guard let node = matching.producer(of: value), case .cast = node.operation,
        let flags = node.input(0), matching.graph[flags].type.elementType == .bool
      else { return nil }
      return flags
    }
  }

  // MARK: Parts

  /// A sum of products and constants, `[B, n]`.
  private struct Terms {
    /// How h enters the sum.
    enum State {
      /// `h·R`
      case plain
      /// `(r·h)·R`
      case resetBefore(Graph.ValueID)
      /// `r·(h·R + Rb)`
      case resetAfter(Graph.ValueID)
    }

    var input: (value: Graph.ValueID, rows: [Rows])?
    var state: (form: State, rows: [Rows])?
    var inputBias: [Float]?
    var stateBias: [Float]?

    /// The sum of both; nil if both multiply x, or both h.
    func adding(_ other: Terms) -> Terms? {
      guard input == nil || other.input == nil, state == nil || other.state == nil else {
        return nil
      }
      return Terms(
        input: input ?? other.input, state: state ?? other.state,
        inputBias: sum(inputBias, other.inputBias), stateBias: sum(stateBias, other.stateBias))
    }

    /// A constant belongs to the product that it is added to, because a reset gate multiplies one of
    /// them only.
    func adding(_ bias: [Float]) -> Terms {
      var terms = self
      if case .plain? = state?.form, input == nil {
        terms.stateBias = sum(stateBias, bias)
      } else {
        terms.inputBias = sum(inputBias, bias)
      }
      return terms
    }

    private func sum(_ left: [Float]?, _ right: [Float]?) -> [Float]? {
      guard let left, let right else { return left ?? right }
      return zip(left, right).map { $0 + $1 }
    }

    /// Some columns of the sum; nil where a gate multiplies its columns.
    func columns(_ range: Range<Int>) -> Terms? {
      if case .resetAfter? = state?.form { return nil }
      return Terms(
        input: input.map { ($0.value, Self.cut($0.rows, range)) },
        state: state.map { ($0.form, Self.cut($0.rows, range)) },
        inputBias: inputBias.map { Array($0[range]) },
        stateBias: stateBias.map { Array($0[range]) })
    }

    private static func cut(_ rows: [Rows], _ range: Range<Int>) -> [Rows] {
      var first = 0
      var kept: [Rows] = []
      for part in rows {
        let wanted = range.clamped(to: first..<first + part.range.count)
        if !wanted.isEmpty {
          let start = part.range.lowerBound - first
          kept.append(
            Rows(
              matrix: part.matrix, range: wanted.lowerBound + start..<wanted.upperBound + start))
        }
        first += part.range.count
      }
      return kept
    }
  }

  private struct Found {
    let cell: Recurrent.Cell
    let functions: [UnaryFunction]
    /// In the order of ``Recurrent``.
    let gates: [Terms]
    /// Number of units H.
    let units: Int
  }

  /// The gates' weights, one after the other.
  private struct Assembled {
    let input: Graph.ValueID
    let weights: [Rows]
    let recurrence: [Rows]
    let bias: [Float]?

    init?(_ found: Found) {
      guard let input = found.gates[0].input?.value else { return nil }
      var weights: [Rows] = []
      var recurrence: [Rows] = []
      var inputBias: [Float] = []
      var stateBias: [Float] = []
      let zeros = [Float](repeating: 0, count: found.units)
      for gate in found.gates {
        guard let fromInput = gate.input, let fromState = gate.state, fromInput.value == input
        else { return nil }
        weights = Self.joined(weights, fromInput.rows)
        recurrence = Self.joined(recurrence, fromState.rows)
        inputBias += gate.inputBias ?? zeros
        stateBias += gate.stateBias ?? zeros
      }
      self.input = input
      self.weights = weights
      self.recurrence = recurrence
      let isBiased = found.gates.contains { $0.inputBias != nil || $0.stateBias != nil }
      bias = isBiased ? inputBias + stateBias : nil
    }

    private static func joined(_ left: [Rows], _ right: [Rows]) -> [Rows] {
      var result = left
      for part in right {
        if let last = result.last, last.matrix == part.matrix,
          last.range.upperBound == part.range.lowerBound
        {
          result[result.count - 1].range = last.range.lowerBound..<part.range.upperBound
        } else {
          result.append(part)
        }
      }
      return result
    }
  }

  // MARK: Search

  private struct Matcher {
    let matching: Matching
    /// h before the iteration.
    let hidden: Graph.ValueID

    // MARK: Cells

    func simple(_ new: Graph.ValueID) -> Found? {
      guard let (function, terms) = gate(new), isPlain(terms) else { return nil }
      return found(.simple, [function], [terms])
    }

    func gru(_ new: Graph.ValueID) -> Found? {
      for (one, other) in matching.pairs(new, of: .add) {
        for (update, state) in matching.pairs(one, of: .multiply) where state == hidden {
          for (complement, candidate) in matching.pairs(other, of: .multiply)
          where isComplement(complement, of: update) {
            if let found = gru(update: update, candidate: candidate) { return found }
          }
        }
        for (update, difference) in matching.pairs(other, of: .multiply) {
          guard let (state, subtracted) = matching.operands(difference, of: .subtract),
            state == hidden, subtracted == one
          else { continue }
          if let found = gru(update: update, candidate: one) { return found }
        }
      }
      return nil
    }

    private func gru(update: Graph.ValueID, candidate: Graph.ValueID) -> Found? {
      guard let (function, z) = gate(update), isPlain(z), let (g, n) = gate(candidate) else {
        return nil
      }
      let cell: Recurrent.Cell
      let reset: Graph.ValueID
      switch n.state?.form {
      case .resetBefore(let gate): (cell, reset) = (.gru, gate)
      case .resetAfter(let gate): (cell, reset) = (.gruResetAfter, gate)
      case .plain, nil: return nil
      }
      guard let (other, r) = gate(reset), other == function, isPlain(r) else { return nil }
      return found(cell, [function, g], [z, r, n])
    }

    func lstm(h: Graph.ValueID, c: State) -> Found? {
      for (output, squashed) in matching.pairs(h, of: .multiply) {
        guard let (function, o) = gate(output), isPlain(o) else { continue }
        let k: UnaryFunction
        if squashed == c.after {
          k = .affine(scale: 1, offset: 0)
        } else if let (known, operand) = matching.unary(squashed), operand == c.after,
          isGateFunction(known)
        {
          k = known
        } else {
          continue
        }
        for (kept, added) in matching.pairs(c.after, of: .add) {
          for (forget, state) in matching.pairs(kept, of: .multiply) where state == c.before {
            guard let (other, j) = gate(forget), other == function, isPlain(j) else { continue }
            for (first, second) in matching.pairs(added, of: .multiply) {
              guard let (another, i) = gate(first), another == function, isPlain(i),
                let (g, candidate) = gate(second), isPlain(candidate)
              else { continue }
              return found(.lstm, [function, g, k], [i, o, j, candidate])
            }
          }
        }
      }
      return nil
    }

    private func found(
      _ cell: Recurrent.Cell, _ functions: [UnaryFunction], _ gates: [Terms]
    ) -> Found? {
      // The loop may not say how many units its state has; a square recurrence does.
      guard let first = gates[0].state?.rows.first,
        let units = matching.graph[first.matrix].constant?.shape[1],
        gates.allSatisfy({ gate in
          [gate.state?.rows, gate.input?.rows].allSatisfy { rows in
            rows.map { $0.reduce(0) { $0 + $1.range.count } } == units
          }
        })
      else { return nil }
      return Found(cell: cell, functions: functions, gates: gates, units: units)
    }

    /// Whether `value` is 1 − `other`.
    private func isComplement(_ value: Graph.ValueID, of other: Graph.ValueID) -> Bool {
      if let (one, subtracted) = matching.operands(value, of: .subtract) {
        return subtracted == other && matching.scalar(one) == 1
      }
      return matching.operand(value, of: .affine(scale: -1, offset: 1)) == other
    }

    private func isPlain(_ terms: Terms) -> Bool {
      if case .plain? = terms.state?.form { terms.input != nil } else { false }
    }

    // MARK: Gates

    /// Whether ``Recurrent`` is read and written with the function in ONNX.
    private func isGateFunction(_ function: UnaryFunction) -> Bool {
      switch function {
      case .relu, .tanh, .sigmoid, .softsign, .softplus, .elu, .leakyRelu, .thresholdedRelu,
        .hardSigmoid:
        true
      default: false
      }
    }

    /// The function and the sum that it is applied to.
    private func gate(_ value: Graph.ValueID) -> (UnaryFunction, Terms)? {
      if let terms = terms(value) { return (.affine(scale: 1, offset: 0), terms) }
      if let (function, operand) = matching.unary(value), isGateFunction(function),
        let terms = terms(operand)
      {
        return (function, terms)
      }
      return hardSigmoid(value)
    }

    /// `clip(a·x + b, 0, m) / m`.
    private func hardSigmoid(_ value: Graph.ValueID) -> (UnaryFunction, Terms)? {
      let outer = scaled(value)
      guard outer.offset == 0,
        case (.clip(0, let most), let clipped)? = matching.unary(outer.value),
        abs(most * outer.scale - 1) < 1e-6
      else { return nil }
      let inner = scaled(clipped)
      guard let terms = terms(inner.value) else { return nil }
      return (
        .hardSigmoid(alpha: outer.scale * inner.scale, beta: outer.scale * inner.offset), terms
      )
    }

    /// `value` as scale · x + offset with numbers; x is a sum of products, or not scaled further.
    private func scaled(
      _ value: Graph.ValueID
    ) -> (value: Graph.ValueID, scale: Float, offset: Float) {
      var (value, scale, offset): (Graph.ValueID, Float, Float) = (value, 1, 0)
      for _ in 0..<4 where terms(value) == nil {
        if let (operand, number) = matching.shifted(value) {
          (value, offset) = (operand, offset + scale * number)
        } else if let (operand, factor) = multiplied(value) {
          (value, scale) = (operand, scale * factor)
        } else {
          break
        }
      }
      return (value, scale, offset)
    }

    /// x and c, where `value` is x · c with a constant number c.
    private func multiplied(_ value: Graph.ValueID) -> (Graph.ValueID, Float)? {
      if case (.affine(let scale, 0), let operand)? = matching.unary(value) {
        return (operand, scale)
      }
      for (operand, number) in matching.pairs(value, of: .multiply) {
        if let number = matching.scalar(number) { return (operand, number) }
      }
      if let (operand, divisor) = matching.operands(value, of: .divide),
        let number = matching.scalar(divisor)
      {
        return (operand, 1 / number)
      }
      return nil
    }

    // MARK: Sums

    /// `value` as a sum of products with x and h; nil if it is none.
    /// - Parameter depth: bounds the search where nodes are read by several others.
    private func terms(_ value: Graph.ValueID, depth: Int = 8) -> Terms? {
      guard depth > 0, matching.shape(value).rank == 2, let columns = columns(of: value),
        let node = matching.producer(of: value)
      else { return nil }
      switch node.operation {
      case .matrixMultiply(let product): return terms(node, product, columns)
      case .binary(let binary) where binary.function == .add:
        guard let (left, right) = matching.operands(value, of: .add) else { return nil }
        // A sum of one column is none of products: it would be repeated.
        func sum(_ operand: Graph.ValueID) -> Terms? {
          self.columns(of: operand) == columns ? terms(operand, depth: depth - 1) : nil
        }
        switch (sum(left), sum(right)) {
        case (let left?, let right?): return left.adding(right)
        case (let sum?, nil): return bias(right, columns).map(sum.adding)
        case (nil, let sum?): return bias(left, columns).map(sum.adding)
        case (nil, nil): return nil
        }
      case .binary(let binary) where binary.function == .multiply:
        for (gate, product) in matching.pairs(value, of: .multiply) {
          guard self.columns(of: gate) == columns, self.columns(of: product) == columns,
            var terms = terms(product, depth: depth - 1), terms.input == nil,
            case (.plain, let rows)? = terms.state
          else { continue }
          terms.state = (.resetAfter(gate), rows)
          return terms
        }
        return nil
      case .split(let split) where split.axis == 1:
        return part(node, of: split, value, depth: depth)
      case .slice: return slice(node, columns, depth: depth)
      default: return nil
      }
    }

    private func columns(of value: Graph.ValueID) -> Int? {
      matching.shape(value).axes.last?.extent
    }

    private func terms(
      _ node: Graph.Node, _ product: MatrixMultiply, _ columns: Int
    ) -> Terms? {
      guard product.epilogue == Epilogue(), product.rightLayout == .channelsFirst,
        let left = node.input(ProductOperand.input),
        let right = node.input(ProductOperand.weights),
        let matrix = matching.graph[right].constant, matrix.elementType == .float32,
        matrix.shape.count == 2, matrix.shape[0] == columns,
        node.inputs.dropFirst(ProductOperand.bias + 1).allSatisfy({ $0 == nil })
      else { return nil }
      let rows = [Rows(matrix: right, range: 0..<columns)]
      var terms = Terms()
      if left == hidden {
        terms.state = (.plain, rows)
      } else if let reset = matching.pairs(left, of: .multiply).first(where: { $1 == hidden })?.0 {
        terms.state = (.resetBefore(reset), rows)
      } else {
        terms.input = (left, rows)
      }
      guard let added = node.input(ProductOperand.bias) else { return terms }
      return bias(added, columns).map(terms.adding)
    }

    /// The numbers of a constant that is added to each row.
    private func bias(_ value: Graph.ValueID, _ columns: Int) -> [Float]? {
      guard let constant = matching.graph[value].constant, constant.elementType == .float32,
        constant.shape.count <= 2, constant.shape.dropLast().allSatisfy({ $0 == 1 })
      else { return nil }
      let numbers = constant.elements(as: Float.self)
      guard numbers.allSatisfy(\.isFinite) else { return nil }
      if numbers.count == columns { return Array(numbers) }
      return numbers.count == 1 ? [Float](repeating: numbers[0], count: columns) : nil
    }

    private func part(
      _ node: Graph.Node, of split: Split, _ value: Graph.ValueID, depth: Int
    ) -> Terms? {
      guard let input = node.input(0), let sum = terms(input, depth: depth - 1) else { return nil }
      var first = 0
      for output in node.outputs {
        guard let count = columns(of: output) else { return nil }
        if output == value { return sum.columns(first..<first + count) }
        first += count
      }
      return nil
    }

    private func slice(_ node: Graph.Node, _ columns: Int, depth: Int) -> Terms? {
      func number(_ position: Int) -> Int? {
        guard let value = node.input(position), let constant = matching.graph[value].constant,
          constant.elementType == .int64, constant.elementCount == 1
        else { return nil }
        return Int(constant.elements(as: Int64.self)[0])
      }
      guard let input = node.input(0), let all = self.columns(of: input),
        let start = number(1), start >= 0, start <= all - columns, number(3) == 1,
        node.input(4) == nil || number(4) == 1, let sum = terms(input, depth: depth - 1)
      else { return nil }
      return sum.columns(start..<start + columns)
    }
  }
}
