import CQMKernels
import QMTensor

/// Copies a box of elements from one tensor to another, with any order of axes. The fast kernels of
/// data movement consist of such copies.
///
/// An input stride of 0 repeats elements, a negative one reverses them. Strides and offsets are in
/// bytes.
struct StridedCopy: Sendable {
  private(set) var extents: [Int]
  private(set) var outStrides: [Int]
  private(set) var inStrides: [Int]
  let outOffset: Int
  let inOffset: Int
  private(set) var elementByteCount: Int

  /// Extents must be within ``ValueLimits``.
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

  /// Merges axes and elements as far as possible; then makes at least two axes, of which the last
  /// are those along which a side is dense.
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
    // A transposition reads whole cache lines if the input's dense axis is the one before the last.
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

  /// Copies element by element, in order.
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

  /// Copies with the kernels of a set, on the threads of a pool.
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
  static func strides(of shape: [Int], elementByteCount: Int) -> [Int] {
    var strides = Array(repeating: elementByteCount, count: shape.count)
    for axis in shape.indices.dropLast().reversed() {
      // Strides of a shape with an extent of 0 may overflow; they are not used.
      strides[axis] = strides[axis + 1] &* shape[axis + 1]
    }
    return strides
  }

  /// Copies a whole tensor: output axis i is input axis `permutation[i]`.
  static func transposing(
    _ shape: [Int], _ permutation: [Int], elementByteCount: Int
  ) -> StridedCopy {
    let strides = strides(of: shape, elementByteCount: elementByteCount)
    let outShape = permutation.map { shape[$0] }
    return StridedCopy(
      elementByteCount: elementByteCount, extents: outShape,
      outStrides: self.strides(of: outShape, elementByteCount: elementByteCount),
      inStrides: permutation.map { strides[$0] })
  }
}

extension Kernel {
  /// The tensor that a step of data movement reads.
  enum MoveSource: Sendable {
    case input(Int)
    /// Output 0, as the earlier steps have written it. Source and target must not overlap.
    case output
  }

  /// A kernel of copies into output 0, one after the other.
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
  /// A kernel that copies input 0 to output 0, byte for byte.
  static func copyingBytes(
    of type: ValueType, _ name: String, _ kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    let shape = try type.concreteShape()
    let size = type.elementType.byteCount
    let strides = StridedCopy.strides(of: shape, elementByteCount: size)
    let copy = StridedCopy(
      elementByteCount: size, extents: shape, outStrides: strides, inStrides: strides)
    return moving(name, kernels, [(.input(0), copy)])
  }
}

extension ValueType {
  /// The shape of a value that a kernel computes or reads.
  /// - Throws: `internalFault` if an axis is dynamic.
  func concreteShape() throws(QMError) -> [Int] {
    guard let extents = shape.extents else {
      throw .internalFault("a kernel needs a concrete shape, found \(self)")
    }
    return extents
  }
}
