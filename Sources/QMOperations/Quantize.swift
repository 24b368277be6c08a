import CQMKernels
import QMTensor

/// float32 → codes with a given scale and zero point, by
/// `encode(real:inverseScale:zeroPoint:lowest:highest:)` of each element x:
///
///     inverseScale = 1 / scale
///     code = clamp(roundToNearestEven(x · inverseScale) + zeroPoint)
///
/// NaN becomes the lowest code.
public struct Quantize: FloatOperation {
  public static let name = "Quantize"
  /// int8, uint8 or int16.
  public var elementType: ElementType
  /// Scale of the codes.
  public var scale: Float
  /// Zero point of the codes.
  public var zeroPoint: Int32

  /// - Parameter elementType: int8, uint8 or int16.
  public init(_ elementType: ElementType, scale: Float, zeroPoint: Int32) {
    self.elementType = elementType
    self.scale = scale
    self.zeroPoint = zeroPoint
  }

  public static let placeholder = Quantize(.int8, scale: 1, zeroPoint: 0)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("element type", &elementType)
    try visitor.visit("scale", &scale)
    try visitor.visit("zero point", &zeroPoint)
  }
}

extension Quantize {
  public var keepsName: Bool { false }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? {
    ReorderedForm(.quantize(self), [.reordered], of: operands)
  }
}

/// float32 → int8 codes with scales and zero points from the data, one pair per index of the
/// leading `axes` axes:
///
///     low   = min(0, min x)          NaN is skipped
///     high  = max(0, max x)
///     scale = (high − low) / 255     1 if that is not a normal number
///     zeroPoint = clamp(roundToNearestEven(−128 − low / scale), −128, 127)
///     code  = as ``Quantize`` with this scale and zero point
///
/// Each step is rounded once, in float32.
/// Outputs: the codes; and float32 `[leading axes…, 2]`: scale and zero point.
public struct DynamicQuantize: FloatOperation {
  public static let name = "DynamicQuantize"
  /// Number of leading axes whose indices have their own scale and zero point.
  public var axes: Int

  /// - Parameter axes: number of leading axes whose indices have their own scale and zero point.
  public init(axes: Int) { self.axes = axes }

  public static let placeholder = DynamicQuantize(axes: 0)

  public mutating func visitAttributes<V: AttributeVisitor>(_ visitor: inout V) throws(QMError) {
    try visitor.visit("axes", &axes)
  }
}

extension DynamicQuantize {
  public var keepsName: Bool { false }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? {
    axes == 0 ? ReorderedForm(.dynamicQuantize(self), [.reordered], of: operands) : nil
  }
}

/// Codes → float32, `scale · Float(code − zeroPoint)`. Only a dynamic scale that is NaN or infinite
/// can give NaN, which is stored as the one NaN. Inputs: codes; and second
///
/// - for weights quantization, the scales: float32 in the shape of ``Granularity/scaleShape(of:)``
///   (the zero point is 0);
/// - for dynamic quantization, the parameters from ``DynamicQuantize``;
/// - for fixed quantization, nothing.
public struct Dequantize: FloatOperation {
  public static let name = "Dequantize"
  /// It has no attributes.
  public init() {}
  public static let placeholder = Dequantize()
  public func visitAttributes<V: AttributeVisitor>(_: inout V) {}
}

extension Dequantize {
  public var keepsName: Bool { false }
  public func reordered(_ order: AxisOrder, _ operands: [Operand?]) -> ReorderedForm? {
    // Scales or parameters would have to be reordered with the codes, unless there is one pair.
    guard operands.count == 1 || operands.first??.type.quantization == .dynamic(axes: 0) else {
      return nil
    }
    return ReorderedForm(.dequantize(self), [.reordered], of: operands)
  }
}

extension ValueType {
  /// - Throws: `malformed` unless the elements are float32.
  fileprivate func checkFloat(_ operation: String) throws(QMError) {
    guard elementType == .float32, quantization == .none else {
      throw .malformed("\(operation) takes float32, found \(self)")
    }
  }
}

// MARK: Quantize

extension Quantize {
  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    let input = try required(0, of: operands).type
    try input.checkFloat(Self.name)
    try QuantizationParameters(elementType, scale: scale, zeroPoint: zeroPoint).check()
    return [ValueType(elementType, input.shape, .fixed(scale: scale, zeroPoint: zeroPoint))]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let input = inputs[0]!.elements(as: Float.self)
    for index in input.indices { outputs[0].store(input[index], at: index) }
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    guard let set = kernels.number else { return nil }
    let encode = qm_quantize_for(set).encode!
    let count = try outputs[0].concreteShape().reduce(1, *)
    let codes = outputs[0].codes
    let inverseScale = outputs[0].inverseScale
    let size = elementType.byteCount
    return Kernel(name: "quantize \(kernels)") { memory in
      let source = memory.inputs[0]!.assumingMemoryBound(to: Float.self)
      let target = memory.outputs[0]!
      forEachChunk(of: count, on: memory.threads) { start, count in
        encode(codes, inverseScale, source + start, target + start * size, Int64(count))
      }
    }
  }
}

extension Quantize {
  /// Bytes of a block of codes, which stays in the cache until it is transposed.
  private static let blockByteCount = 64 << 10
  /// Smallest and largest number of consecutive positions of a channel in a block.
  private static let blockPositions = 16...1024
  /// With more channels, blocks would become too large for the cache.
  private static let mostChannels = 1 << 14

  /// Only from channels first to channels last.
  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet,
    transposing permutation: [Int]
  ) throws(QMError) -> Kernel? {
    let shape = try outputs[0].concreteShape()
    guard let set = kernels.number, shape.count >= 3, !shape.contains(0),
      shape[1] <= Self.mostChannels, permutation == [0] + Array(2..<shape.count) + [1]
    else { return nil }
    let encode = qm_quantize_for(set).encode!
    let codes = outputs[0].codes
    let inverseScale = outputs[0].inverseScale
    let size = elementType.byteCount
    let channels = shape[1]
    let plane = shape.dropFirst(2).reduce(1, *)
    let fitting = Self.blockByteCount / (channels * size) / 16 * 16
    let positions = min(
      max(fitting, Self.blockPositions.lowerBound), Self.blockPositions.upperBound)
    let blocks = (plane + positions - 1) / positions
    var scratch = ScratchLayout()
    _ = scratch.reserve(channels * positions * size)
    let blockByteCount = scratch.byteCount
    return Kernel(
      name: "quantize to channels last \(kernels)",
      scratchByteCount: { threads in threads * blockByteCount },
      run: { memory in
        let source = memory.inputs[0]!.assumingMemoryBound(to: Float.self)
        let target = memory.outputs[0]!
        memory.threads.run(chunks: shape[0] * blocks) { chunk, thread in
          let (sample, number) = chunk.quotientAndRemainder(dividingBy: blocks)
          let first = number * positions
          let count = min(positions, plane - first)
          let block = memory.scratch + thread * blockByteCount
          for channel in 0..<channels {
            encode(
              codes, inverseScale, source + (sample * channels + channel) * plane + first,
              block + channel * positions * size, Int64(count))
          }
          transposeBlock(
            set, elementByteCount: size, rows: count, columns: channels, from: block,
            pitch: positions, to: target + (sample * plane + first) * channels * size,
            pitch: channels)
        }
      })
  }
}

// MARK: DynamicQuantize

extension DynamicQuantize {
  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    let input = try required(0, of: operands).type
    try input.checkFloat(Self.name)
    guard axes >= 0, axes <= input.shape.rank else {
      throw .malformed(
        "\(Self.name) over \(axes) leading axes needs at least as many axes, found \(input.shape)")
    }
    return [
      ValueType(.int8, input.shape, .dynamic(axes: axes)),
      ValueType(.float32, Shape(Array(input.shape.axes.prefix(axes)) + [2])),
    ]
  }

  /// Number of rows, each with its own parameters, and number of elements in a row.
  private func split(_ shape: [Int]) -> (rows: Int, length: Int) {
    (shape.prefix(axes).reduce(1, *), shape.dropFirst(axes).reduce(1, *))
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let input = inputs[0]!.elements(as: Float.self)
    let codes = outputs[0].elements(as: Int8.self)
    let parameters = outputs[1].elements(as: Float.self)
    let (rows, length) = split(inputs[0]!.shape)
    for row in 0..<rows {
      let indices = row * length..<(row + 1) * length
      var low: Float = 0
      var high: Float = 0
      for index in indices {
        if input[index] < low { low = input[index] }
        if input[index] > high { high = input[index] }
      }
      let found = QuantizationParameters(covering: low, high)
      parameters[2 * row] = found.scale
      parameters[2 * row + 1] = Float(found.zeroPoint)
      for index in indices {
        let code = encode(
          real: input[index], inverseScale: 1 / found.scale, zeroPoint: found.zeroPoint,
          lowest: -128, highest: 127)
        codes[index] = Int8(code)
      }
    }
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    guard let set = kernels.number else { return nil }
    let (rows, length) = try split(outputs[0].concreteShape())
    let rules = DynamicKernel(functions: qm_quantize_for(set), rows: rows, length: length)
    return Kernel(
      name: "dynamic quantize \(kernels)", scratchByteCount: { _ in rules.scratchByteCount },
      run: { memory in rules.run(memory) })
  }
}

/// Long rows are divided into parts, so that several threads can share one row.
private struct DynamicKernel: Sendable {
  let functions: qm_quantize_kernels
  let rows: Int
  let length: Int

  private static let partLength = 1 << 14

  private var partsPerRow: Int { max(1, (length + Self.partLength - 1) / Self.partLength) }

  /// Memory for the bounds of each part.
  var scratchByteCount: Int {
    partsPerRow == 1 ? 0 : rows * partsPerRow * 2 * MemoryLayout<Float>.stride
  }

  func run(_ memory: Kernel.Memory) {
    let source = memory.inputs[0]!.assumingMemoryBound(to: Float.self)
    let codes = memory.outputs[0]!.assumingMemoryBound(to: Int8.self)
    let parameters = memory.outputs[1]!.assumingMemoryBound(to: Float.self)
    let parts = partsPerRow
    guard parts > 1 else {
      let rowsPerChunk = max(1, Self.partLength / max(length, 1))
      memory.threads.run(chunks: (rows + rowsPerChunk - 1) / rowsPerChunk) { chunk, _ in
        let first = chunk * rowsPerChunk
        functions.encode_rows(
          source + first * length, Int64(min(rowsPerChunk, rows - first)), Int64(length),
          codes + first * length, parameters + 2 * first)
      }
      return
    }
    let bounds = memory.scratch.assumingMemoryBound(to: Float.self)
    memory.threads.run(chunks: rows * parts) { chunk, _ in
      let (start, count) = part(chunk)
      bounds[2 * chunk] = 0
      bounds[2 * chunk + 1] = 0
      functions.bounds(source + start, Int64(count), bounds + 2 * chunk)
    }
    // In a cancelled run some bounds are undefined.
    guard !memory.threads.runState.isCancelled else { return }
    for row in 0..<rows {
      let own = row * parts..<(row + 1) * parts
      let low = own.reduce(Float(0)) { min($0, bounds[2 * $1]) }
      let high = own.reduce(Float(0)) { max($0, bounds[2 * $1 + 1]) }
      store(low: low, high: high, parameters + 2 * row)
    }
    memory.threads.run(chunks: rows * parts) { chunk, _ in
      let (start, count) = part(chunk)
      encode(source + start, codes + start, count, parameters + 2 * (chunk / parts))
    }
  }

  private func part(_ chunk: Int) -> (start: Int, count: Int) {
    let offset = chunk % partsPerRow * Self.partLength
    return (chunk / partsPerRow * length + offset, min(Self.partLength, length - offset))
  }

  private func store(low: Float, high: Float, _ parameters: UnsafeMutablePointer<Float>) {
    let found = QuantizationParameters(covering: low, high)
    parameters[0] = found.scale
    parameters[1] = Float(found.zeroPoint)
  }

  private func encode(
    _ source: UnsafePointer<Float>, _ codes: UnsafeMutablePointer<Int8>, _ count: Int,
    _ parameters: UnsafePointer<Float>
  ) {
    let type = qm_codes(
      element_type: Int32(QM_INT8), scale: parameters[0], zero_point: Int32(parameters[1]))
    functions.encode(type, 1 / parameters[0], source, codes, Int64(count))
  }
}

// MARK: Dequantize

/// The zero point from a parameter of dynamic quantization, clamped to int8: the parameter may be
/// an input of the run, with any value.
func zeroPoint(fromParameter parameter: Float) -> Int32 {
  let above = parameter > -128 ? parameter : -128
  return Int32(above < 127 ? above : 127)
}

extension Dequantize {
  /// Rows of consecutive elements that share a scale and zero point.
  private struct Rows {
    var count: Int
    var length: Int
    /// Number of weight scales: row r has the scale `r % scales`.
    var scales: Int
  }

  private func rows(_ shape: [Int], _ quantization: Quantization) -> Rows {
    switch quantization {
    case .dynamic(let axes):
      let rows = shape.prefix(axes).reduce(1, *)
      return Rows(count: rows, length: shape.dropFirst(axes).reduce(1, *), scales: rows)
    case .weights(_, .perChannel(let axis)):
      return Rows(
        count: shape.prefix(axis + 1).reduce(1, *),
        length: shape.dropFirst(axis + 1).reduce(1, *), scales: shape[axis])
    default:
      return Rows(count: 1, length: shape.reduce(1, *), scales: 1)
    }
  }

  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    let codes = try required(0, of: operands).type
    let expected: Shape?
    switch codes.quantization {
    case .none:
      throw .malformed("Dequantize takes codes, found \(codes)")
    case .fixed(let scale, let zeroPoint):
      try QuantizationParameters(codes.elementType, scale: scale, zeroPoint: zeroPoint).check()
      expected = nil
    case .dynamic(let axes):
      guard codes.elementType == .int8, axes >= 0, axes <= codes.shape.rank else {
        throw .malformed(
          "Dequantize takes int8 codes with at least \(axes) axes, found \(codes)")
      }
      expected = Shape(Array(codes.shape.axes.prefix(axes)) + [2])
    case .weights(_, let granularity):
      guard codes.elementType == .int8 else {
        throw .malformed("Dequantize takes codes of weights as int8, found \(codes.elementType)")
      }
      expected = try granularity.scaleShape(of: codes.shape)
    }
    if let expected {
      let found = try required(1, of: operands).type
      guard found.elementType == .float32, found.quantization == .none,
        ProductRule.agree(found.shape, expected)
      else { throw .malformed("Dequantize needs scales float32\(expected), found \(found)") }
    }
    return [ValueType(.float32, codes.shape)]
  }

  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    let codes = inputs[0]!
    let output = outputs[0].elements(as: Float.self)
    if let groups = GroupScales(codes.quantization, shape: codes.shape) {
      let scales = inputs[1]!.elements(as: Float.self)
      for index in output.indices {
        output[index] = decode(
          code: codes.code(at: index), scale: scales[groups.scale(ofCode: index)], zeroPoint: 0)
      }
      return
    }
    let rows = rows(codes.shape, codes.quantization)
    for row in 0..<rows.count {
      for index in row * rows.length..<(row + 1) * rows.length {
        switch codes.quantization {
        case .dynamic:
          let parameters = inputs[1]!.elements(as: Float.self)
          output[index] = canonical(
            decode(
              code: codes.code(at: index), scale: parameters[2 * row],
              zeroPoint: zeroPoint(fromParameter: parameters[2 * row + 1])))
        case .weights:
          let scales = inputs[1]!.elements(as: Float.self)
          output[index] = decode(
            code: codes.code(at: index), scale: scales[row % rows.scales], zeroPoint: 0)
        case .fixed, .none:
          output[index] = codes.number(at: index)
        }
      }
    }
  }

  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: PackedWeights?, kernels: KernelSet
  ) throws(QMError) -> Kernel? {
    guard let set = kernels.number else { return nil }
    let codes = try required(0, of: operands).type
    let decode = qm_quantize_for(set).decode!
    if let groups = GroupScales(codes.quantization, shape: try codes.concreteShape()) {
      let count = try codes.concreteShape().reduce(1, *)
      return groups.inner == 1 && count > 0
        ? groupKernel(groups, count: count, decode, kernels) : nil
    }
    let rows = try rows(codes.concreteShape(), codes.quantization)
    let fixed = codes.codes
    let isDynamic = if case .dynamic = codes.quantization { true } else { false }
    guard case .fixed = codes.quantization else {
      return Kernel(name: "dequantize rows \(kernels)") { memory in
        let source = memory.inputs[0]!.assumingMemoryBound(to: Int8.self)
        let scales = memory.inputs[1]!.assumingMemoryBound(to: Float.self)
        let target = memory.outputs[0]!.assumingMemoryBound(to: Float.self)
        let rowsPerChunk = max(1, (1 << 14) / max(rows.length, 1))
        memory.threads.run(chunks: (rows.count + rowsPerChunk - 1) / rowsPerChunk) { chunk, _ in
          for row in chunk * rowsPerChunk..<min((chunk + 1) * rowsPerChunk, rows.count) {
            let type = qm_codes(
              element_type: fixed.element_type,
              scale: isDynamic ? scales[2 * row] : scales[row % rows.scales],
              zero_point: isDynamic ? zeroPoint(fromParameter: scales[2 * row + 1]) : 0)
            let start = row * rows.length
            decode(type, source + start, target + start, Int64(rows.length))
            // Parameters may be inputs of the run. Only such a scale gives NaN.
            if isDynamic, !scales[2 * row].isFinite {
              for index in start..<start + rows.length { target[index] = canonical(target[index]) }
            }
          }
        }
      }
    }
    let count = rows.length
    let size = codes.elementType.byteCount
    return Kernel(name: "dequantize \(kernels)") { memory in
      let source = memory.inputs[0]!
      let target = memory.outputs[0]!.assumingMemoryBound(to: Float.self)
      forEachChunk(of: count, on: memory.threads) { start, count in
        decode(fixed, source + start * size, target + start, Int64(count))
      }
    }
  }

  /// The kernel for weights with groups along the last axis.
  private func groupKernel(
    _ groups: GroupScales, count: Int, _ decode: @escaping qm_decode_kernel, _ kernels: KernelSet
  ) -> Kernel {
    Kernel(name: "dequantize groups \(kernels)") { memory in
      let source = memory.inputs[0]!.assumingMemoryBound(to: Int8.self)
      let scales = memory.inputs[1]!.assumingMemoryBound(to: Float.self)
      let target = memory.outputs[0]!.assumingMemoryBound(to: Float.self)
      memory.threads.run(
        forRangesOf: count / groups.extent, byteCount: 4 * groups.extent
      ) { rows, _ in
        for row in rows {
          for group in 0..<groups.count {
            let start = row * groups.extent + group * groups.size
            let length = min(groups.size, groups.extent - group * groups.size)
            let type = qm_codes(
              element_type: Int32(QM_INT8), scale: scales[row * groups.count + group],
              zero_point: 0)
            decode(type, source + start, target + start, Int64(length))
          }
        }
      }
    }
  }
}
