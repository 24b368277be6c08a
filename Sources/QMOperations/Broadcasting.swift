import QMTensor

extension Shape {
  /// The shape to which two shapes broadcast, by NumPy's rule, extended to dynamic axes. The shapes
  /// are aligned at their last axes. Of two aligned axes, the one that is not 1 wins; a fixed
  /// extent wins over a dynamic axis; two dynamic axes with the same name keep it, others become
  /// dynamic without a name.
  /// - Throws: `malformed` if two fixed extents differ and neither is 1.
  public static func broadcast(_ left: Shape, _ right: Shape) throws(QMError) -> Shape {
    let rank = max(left.rank, right.rank)
    var axes: [Axis] = []
    for index in 0..<rank {
      let leftIndex = index - rank + left.rank
      let rightIndex = index - rank + right.rank
      let leftAxis = leftIndex >= 0 ? left[leftIndex] : .fixed(1)
      let rightAxis = rightIndex >= 0 ? right[rightIndex] : .fixed(1)
      switch (leftAxis, rightAxis) {
      case (.fixed(1), let other), (let other, .fixed(1)):
        axes.append(other)
      case (.fixed(let a), .fixed(let b)):
        guard a == b else {
          throw .malformed(
            "shapes \(left) and \(right) do not broadcast: \(a) and \(b) differ and neither is 1")
        }
        axes.append(leftAxis)
      case (.fixed, .free): axes.append(leftAxis)
      case (.free, .fixed): axes.append(rightAxis)
      case (.free(let a), .free(let b)): axes.append(.free(a == b ? a : ""))
      }
    }
    return Shape(axes)
  }
}

/// The positions of two operands' elements as the output is filled in order.
struct Broadcasting: Sendable {
  /// Extents of the output, with neighbouring axes merged where both operands have regular strides
  /// across them. At least one axis.
  private(set) var extents: [Int] = []
  /// Strides of the left operand along each axis, in elements; 0 where it is repeated.
  private(set) var leftStrides: [Int] = []
  /// The same of the right operand.
  private(set) var rightStrides: [Int] = []

  init(left: [Int], right: [Int], output: [Int]) {
    let allLeft = Broadcasting.strides(of: left, within: output)
    let allRight = Broadcasting.strides(of: right, within: output)
    for axis in output.indices where output[axis] != 1 {
      if let last = extents.indices.last,
        leftStrides[last] == allLeft[axis] * output[axis],
        rightStrides[last] == allRight[axis] * output[axis]
      {
        extents[last] *= output[axis]
        leftStrides[last] = allLeft[axis]
        rightStrides[last] = allRight[axis]
      } else {
        extents.append(output[axis])
        leftStrides.append(allLeft[axis])
        rightStrides.append(allRight[axis])
      }
    }
    if extents.isEmpty {
      extents = [1]
      leftStrides = [0]
      rightStrides = [0]
    }
  }

  /// Strides of a dense operand along each axis of the output, in elements; 0 where its extent
  /// is 1.
  static func strides(of operand: [Int], within output: [Int]) -> [Int] {
    var strides = [Int](repeating: 0, count: output.count)
    var step = 1
    for back in 1...max(operand.count, 1) where back <= operand.count {
      let extent = operand[operand.count - back]
      strides[output.count - back] = extent == 1 ? 0 : step
      step *= extent
    }
    return strides
  }

  /// Calls `body` for each output element in order, with its position and those of its operands'
  /// elements.
  func forEach<E: Error>(
    _ body: (_ output: Int, _ left: Int, _ right: Int) throws(E) -> Void
  ) throws(E) {
    guard !extents.contains(0) else { return }
    var index = [Int](repeating: 0, count: extents.count)
    var left = 0
    var right = 0
    for output in 0..<extents.reduce(1, *) {
      try body(output, left, right)
      var axis = extents.count - 1
      while axis >= 0 {
        index[axis] += 1
        left += leftStrides[axis]
        right += rightStrides[axis]
        if index[axis] < extents[axis] { break }
        left -= leftStrides[axis] * extents[axis]
        right -= rightStrides[axis] * extents[axis]
        index[axis] = 0
        axis -= 1
      }
    }
  }
}

/// How an operand's elements correspond to a run of output elements. Raw values are those of C.
enum RunPattern: Int32, Sendable {
  /// One element for each output element.
  case each = 0
  /// One element for all output elements.
  case one = 1
  /// A row of elements, repeated.
  case row = 2
}

/// The output, divided into runs along which both operands follow a pattern. The runs are grouped
/// into chunks of work for threads.
struct BroadcastRuns: Sendable {
  /// Output elements of one run.
  let length: Int
  let leftPattern: RunPattern
  let rightPattern: RunPattern
  /// Length of the repeated row; 1 if no operand repeats a row.
  let row: Int
  let chunkCount: Int

  /// Whether one operand repeats a row.
  var hasRow: Bool { leftPattern == .row || rightPattern == .row }

  private let runCount: Int
  private let outer: Broadcasting
  private let outerRank: Int
  /// Either a run has several parts, or a chunk has several runs.
  private let partLength: Int
  private let partsPerRun: Int
  private let runsPerChunk: Int

  /// - Parameter chunkLength: output elements per chunk; fewer are not worth waking a thread for.
  init(_ broadcasting: Broadcasting, chunkLength: Int) {
    let extents = broadcasting.extents
    let left = broadcasting.leftStrides
    let right = broadcasting.rightStrides
    let last = extents.count - 1
    let before = last - 1
    outer = broadcasting
    func pattern(_ stride: Int) -> RunPattern { stride == 0 ? .one : .each }
    let isInStep = last > 0 && left[last] == 1 && right[last] == 1
    if isInStep, left[before] == extents[last], right[before] == 0 {
      (leftPattern, rightPattern, row) = (.each, .row, extents[last])
    } else if isInStep, right[before] == extents[last], left[before] == 0 {
      (leftPattern, rightPattern, row) = (.row, .each, extents[last])
    } else {
      (leftPattern, rightPattern, row) = (pattern(left[last]), pattern(right[last]), 1)
    }
    let hasRow = leftPattern == .row || rightPattern == .row
    outerRank = hasRow ? before : last
    length = hasRow ? extents[before] * row : extents[last]
    runCount = extents.prefix(outerRank).reduce(1, *)

    if length > chunkLength {
      partLength = (chunkLength + row - 1) / row * row
      partsPerRun = (length + partLength - 1) / partLength
      runsPerChunk = 1
      chunkCount = runCount * partsPerRun
    } else {
      partLength = length
      partsPerRun = 1
      runsPerChunk = max(1, chunkLength / max(length, 1))
      chunkCount = length == 0 ? 0 : (runCount + runsPerChunk - 1) / runsPerChunk
    }
  }

  /// Calls `body` for each part of a run in a chunk. Positions are in elements.
  func forEachPiece(
    ofChunk chunk: Int, _ body: (_ left: Int, _ right: Int, _ output: Int, _ count: Int) -> Void
  ) {
    let firstRun = chunk / partsPerRun * runsPerChunk
    let offset = chunk % partsPerRun * partLength
    let count = min(partLength, length - offset)
    for run in firstRun..<min(firstRun + runsPerChunk, runCount) {
      var left = leftPattern == .each ? offset : 0
      var right = rightPattern == .each ? offset : 0
      var rest = run
      for axis in stride(from: outerRank - 1, through: 0, by: -1) {
        let index = rest % outer.extents[axis]
        rest /= outer.extents[axis]
        left += index * outer.leftStrides[axis]
        right += index * outer.rightStrides[axis]
      }
      body(left, right, run * length + offset, count)
    }
  }
}

/// Applies a function to pairs of elements of two operands of one element type, with broadcasting.
struct BroadcastPairs: Sendable {
  private static let chunkLength = 1 << 14
  let runs: BroadcastRuns

  init(_ left: ValueType, _ right: ValueType, _ output: ValueType) throws(QMError) {
    runs = BroadcastRuns(
      try Broadcasting(
        left: left.concreteShape(), right: right.concreteShape(),
        output: output.concreteShape()), chunkLength: Self.chunkLength)
  }

  @inline(__always)
  func run<Element: BitwiseCopyable & Sendable, Result: BitwiseCopyable>(
    _ memory: Kernel.Memory, _ body: (Element, Element) -> Result
  ) {
    let left = memory.inputs[0]!.assumingMemoryBound(to: Element.self)
    let right = memory.inputs[1]!.assumingMemoryBound(to: Element.self)
    let output = memory.outputs[0]!.assumingMemoryBound(to: Result.self)
    memory.threads.run(chunks: runs.chunkCount) { chunk, _ in
      runs.forEachPiece(ofChunk: chunk) { leftStart, rightStart, start, count in
        for first in stride(from: 0, to: count, by: runs.hasRow ? runs.row : max(count, 1)) {
          let length = runs.hasRow ? min(runs.row, count - first) : count
          let out = output + start + first
          let a = left + leftStart + (runs.leftPattern == .each ? first : 0)
          let b = right + rightStart + (runs.rightPattern == .each ? first : 0)
          // With strides known to be 0 or 1, the compiler vectorizes the loops.
          switch (runs.leftPattern == .one, runs.rightPattern == .one) {
          case (false, false): for i in 0..<length { out[i] = body(a[i], b[i]) }
          case (false, true):
            let one = b[0]
            for i in 0..<length { out[i] = body(a[i], one) }
          case (true, false):
            let one = a[0]
            for i in 0..<length { out[i] = body(one, b[i]) }
          case (true, true):
            let one = body(a[0], b[0])
            for i in 0..<length { out[i] = one }
          }
        }
      }
    }
  }
}
