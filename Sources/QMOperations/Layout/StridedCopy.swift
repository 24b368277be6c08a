import CQMKernels
import QMTensor

/// One copy of a box of elements between two tensors, whatever the order of their axes: what the
/// fast kernels of all moves are made of.
///
/// A stride of 0 on the input's side repeats, a negative one reverses. Strides and offsets are in
/// bytes.
struct StridedCopy: Sendable {
  private(set) var extents: [Int]
  private(set) var outStrides: [Int]
  private(set) var inStrides: [Int]
  let outOffset: Int
  let inOffset: Int
  private(set) var elementByteCount: Int

  /// Extents must be checked against ``ValueLimits``.
  init(
    elementByteCount: Int, extents: [Int], outStrides: [Int], inStrides: [Int],
    outOffset: Int = 0, inOffset: Int = 0
  ) {
    self.extents = extents
    self.outStrides = outStrides
    self.inStrides = inStrides
    self.outOffset = outOffset
    self.inOffset = inOffset
    self.elementByteCount = elementByteCount
    normalize()
  }

  var isEmpty: Bool { extents.contains(0) }
  var byteCount: Int { extents.reduce(elementByteCount, *) }
  private var rowCount: Int { extents.dropLast().reduce(1, *) }

  /// Fewest axes, widest elements; then at least two axes, those along which one side is dense
  /// last.
  private mutating func normalize() {
    guard !isEmpty else { return }
    for axis in extents.indices.reversed() where extents[axis] == 1 { remove(axis) }
    for axis in extents.indices.dropLast().reversed()
    where outStrides[axis] == outStrides[axis + 1] * extents[axis + 1]
      && inStrides[axis] == inStrides[axis + 1] * extents[axis + 1]
    {
      extents[axis + 1] *= extents[axis]
      remove(axis)
    }
    if let last = extents.indices.last, outStrides[last] == elementByteCount,
      inStrides[last] == elementByteCount, [2, 4, 8].contains(extents[last] * elementByteCount)
    {
      elementByteCount *= extents[last]
      remove(last)
    }
    while extents.count < 2 {
      extents.insert(1, at: 0)
      outStrides.insert(0, at: 0)
      inStrides.insert(0, at: 0)
    }
    // A transposition reads whole cache lines where the input's dense axis comes next to last.
    if inStrides.last != elementByteCount,
      let dense = inStrides.firstIndex(of: elementByteCount), dense < extents.count - 2
    {
      let (extent, outStride) = (extents[dense], outStrides[dense])
      remove(dense)
      extents.insert(extent, at: extents.count - 1)
      outStrides.insert(outStride, at: outStrides.count - 1)
      inStrides.insert(elementByteCount, at: inStrides.count - 1)
    }
  }

  private mutating func remove(_ axis: Int) {
    extents.remove(at: axis)
    outStrides.remove(at: axis)
    inStrides.remove(at: axis)
  }

  /// The copy element by element.
  func runInOrder(from input: UnsafeRawPointer, to output: UnsafeMutableRawPointer) {
    guard !isEmpty else { return }
    for position in 0..<extents.reduce(1, *) {
      var rest = position
      var (target, source) = (outOffset, inOffset)
      for axis in extents.indices.reversed() {
        target += rest % extents[axis] * outStrides[axis]
        source += rest % extents[axis] * inStrides[axis]
        rest /= extents[axis]
      }
      (output + target).copyMemory(from: input + source, byteCount: elementByteCount)
    }
  }

  func run(
    from input: UnsafeRawPointer, to output: UnsafeMutableRawPointer, _ set: qm_kernel_set,
    _ threads: ThreadPool
  ) {
    guard !isEmpty else { return }
    let rowCount = rowCount
    let out = (output + outOffset).assumingMemoryBound(to: CChar.self)
    let source = (input + inOffset).assumingMemoryBound(to: CChar.self)
    threads.run(forRangesOf: rowCount, byteCount: byteCount / rowCount) { rows, _ in
      qm_copy_rows(
        set, Int32(extents.count), Int32(elementByteCount), extents, outStrides, inStrides, out,
        source, rows.lowerBound, rows.upperBound)
    }
  }
}

extension StridedCopy {
  /// Row-major strides in bytes.
  static func strides(of extents: [Int], elementByteCount: Int) -> [Int] {
    var strides = Array(repeating: elementByteCount, count: extents.count)
    for axis in extents.indices.dropLast().reversed() {
      // Extents with a 0 among them may overflow; nothing is read with their strides.
      strides[axis] = strides[axis + 1] &* extents[axis + 1]
    }
    return strides
  }

  /// All of a tensor: output axis i is input axis `permutation[i]`.
  static func transposing(
    _ extents: [Int], _ permutation: [Int], elementByteCount: Int
  ) -> StridedCopy {
    let strides = strides(of: extents, elementByteCount: elementByteCount)
    let outExtents = permutation.map { extents[$0] }
    return StridedCopy(
      elementByteCount: elementByteCount, extents: outExtents,
      outStrides: self.strides(of: outExtents, elementByteCount: elementByteCount),
      inStrides: permutation.map { strides[$0] })
  }
}

extension Kernel {
  /// Where a step of a move reads.
  enum MoveSource: Sendable {
    case input(Int)
    /// What the steps before have written. The two places must not overlap.
    case output
  }

  /// A move as copies one after the other, into output 0.
  static func moving(
    _ name: String, _ kernels: KernelSet, _ steps: [(source: MoveSource, copy: StridedCopy)]
  ) -> Kernel? {
    guard let set = kernels.number else { return nil }
    return Kernel(name: "\(name) \(kernels.rawValue)") { (memory) throws(QMError) in
      let output = memory.outputs[0]!
      for step in steps {
        let input: UnsafeMutableRawPointer
        switch step.source {
        case .input(let index): input = memory.inputs[index]!
        case .output: input = output
        }
        step.copy.run(from: input, to: output, set, memory.threads)
      }
    }
  }
}

extension Kernel {
  /// Output 0 is input 0, byte for byte.
  static func copyingBytes(
    of type: ValueType, _ name: String, _ kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    let extents = try type.concreteExtents()
    let size = type.elementType.byteCount
    let strides = StridedCopy.strides(of: extents, elementByteCount: size)
    let copy = StridedCopy(
      elementByteCount: size, extents: extents, outStrides: strides, inStrides: strides)
    return moving(name, kernels, [(.input(0), copy)])
  }
}

extension ValueType {
  /// The extents of a value about to be computed.
  /// - Throws: `internalFault` if one is free.
  func concreteExtents() throws(QMError) -> [Int] {
    guard let extents = shape.extents else {
      throw .internalFault("a kernel for \(self), whose extents are not all known")
    }
    return extents
  }
}
