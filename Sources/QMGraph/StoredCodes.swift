import QMOperations
import QMTensor

/// How the network's file stores a constant whose elements are dequantized integers.
public enum StoredCodes: Sendable {
  /// As codes that dequantize to the elements, up to one rounding of each.
  case codes(QuantizedTensor)
  /// As integers that int8 codes without a zero point cannot hold, such as uint8 with a zero point
  /// of 100. The elements must not be rounded a second time.
  case elements

  /// The codes; nil if there are only the elements.
  public var codes: QuantizedTensor? { if case .codes(let codes) = self { codes } else { nil } }

  /// - Parameters:
  ///   - integers: float32, the integers without their zero points.
  ///   - scales: float32: one; one per index of `axis`; or one per block of `blockSize` indices, with
  ///     the axes of `integers`.
  public init(
    _ integers: Tensor, _ scales: Tensor, axis: Int, blockSize: Int
  ) throws(QMError) {
    let granularity: Granularity
    if scales.elementCount == 1 {
      granularity = .perTensor
    } else if blockSize > 0, scales.shape.count == integers.shape.count {
      granularity = .perGroup(axis: axis, size: min(blockSize, integers.shape[axis]))
    } else {
      granularity = .perChannel(axis: axis)
    }
    let expected = try granularity.scaleShape(of: Shape(integers.shape))
    guard expected.extents?.reduce(1, *) == scales.elementCount else {
      throw .malformed("\(scales.elementCount) scales, expected those of shape \(expected)")
    }
    let field = StoredCodes.field(of: scales, granularity, shape: integers.shape)
    try self.init(integers, field, groupSizes: granularity.groupSizes)
  }

  /// Elements with a smaller scale are 0: the product with the scale of an input would be no normal
  /// number.
  private static let leastScale: Float = 0x1p-100

  /// - Parameters:
  ///   - field: the scale of each integer.
  ///   - groupSizes: sizes of groups of integers that may share a scale.
  private init(_ integers: Tensor, _ field: [Float], groupSizes: Set<Int>) throws(QMError) {
    let shape = integers.shape
    guard !field.isEmpty, field.allSatisfy({ $0.isNormal || $0 == 0 }) else {
      self = .elements
      return
    }
    // Scales are positive in the graph: a negative one, or one of almost 0, changes the codes instead.
    func isNothing(_ scale: Float) -> Bool { abs(scale) < StoredCodes.leastScale }
    let signed = integers.elements(as: Float.self)
    var range: (low: Float, high: Float) = (0, 0)
    let codes = try Tensor(shape, as: Int8.self) { codes in
      for index in codes.indices {
        let code = isNothing(field[index]) ? 0 : field[index] < 0 ? -signed[index] : signed[index]
        range = (min(range.low, code), max(range.high, code))
        codes[index] = Int8(min(max(code, -128), 127))
      }
    }
    let positive = field.map { isNothing($0) ? 1 : abs($0) }
    guard range.low >= -128, range.high <= 127,
      let (scales, granularity) = try StoredCodes.scales(positive, shape, groupSizes)
    else {
      self = .elements
      return
    }
    self = .codes(
      QuantizedTensor(
        codes: codes, scales: scales, granularity: granularity,
        codeRange: Int32(range.low)...Int32(range.high)))
  }

  /// The scale of each element.
  private static func field(
    of scales: Tensor, _ granularity: Granularity, shape: [Int]
  ) -> [Float] {
    let numbers = scales.elements(as: Float.self)
    let count = shape.reduce(1, *)
    switch granularity {
    case .perTensor: return [Float](repeating: numbers[0], count: count)
    case .perChannel(let axis):
      let inner = shape[(axis + 1)...].reduce(1, *)
      return (0..<count).map { numbers[$0 / inner % shape[axis]] }
    case .perGroup:
      guard let groups = GroupScales(.weights(bits: .eight, granularity: granularity), shape: shape)
      else { return [] }
      return (0..<count).map { numbers[groups.scale(ofCode: $0)] }
    }
  }

  /// The coarsest scales that give each element its own; nil if groups of these sizes do not
  /// suffice.
  private static func scales(
    _ field: [Float], _ shape: [Int], _ groupSizes: Set<Int>
  ) throws(QMError) -> (Tensor, Granularity)? {
    if field.allSatisfy({ $0 == field[0] }) { return (try Tensor([1], [field[0]]), .perTensor) }
    let candidates =
      shape.indices.map { Granularity.perChannel(axis: $0) }
      + groupSizes.sorted(by: >).flatMap { size in
        shape.indices.reversed().map { .perGroup(axis: $0, size: size) }
      }
    for granularity in candidates {
      guard let extents = try granularity.scaleShape(of: Shape(shape)).extents else { continue }
      var scales = [Float](repeating: 0, count: extents.reduce(1, *))
      let places = (0..<scales.count).map { Float($0) }
      let place = StoredCodes.field(of: try Tensor(extents, places), granularity, shape: shape)
      // Places are exact in float32.
      guard scales.count < 1 << 24 else { continue }
      for index in field.indices { scales[Int(place[index])] = field[index] }
      if field.indices.allSatisfy({ scales[Int(place[$0])] == field[$0] }) {
        return (try Tensor(extents, scales), granularity)
      }
    }
    return nil
  }

  // MARK: Changes of the constant

  /// For the constant with its axes permuted.
  public func transposed(_ permutation: [Int]) throws(QMError) -> StoredCodes {
    switch self {
    case .codes(let codes): .codes(try codes.transposed(permutation))
    case .elements: .elements
    }
  }

  /// For the constant multiplied with one factor per index of its first axis.
  func scaled(by factors: [Double]) throws(QMError) -> StoredCodes {
    guard case .codes(let codes) = self else { return .elements }
    let shape = codes.codes.shape
    let size = max(shape.dropFirst().reduce(1, *), 1)
    var field = StoredCodes.field(of: codes.scales, codes.granularity, shape: shape)
    for index in field.indices {
      field[index] = Float(Double(field[index]) * factors[factors.count == 1 ? 0 : index / size])
    }
    return try StoredCodes(
      codes.codes.converted(to: .float32), field, groupSizes: codes.granularity.groupSizes)
  }

  /// For the results of data movement on constants.
  /// - Parameters:
  ///   - inputs: the operands.
  ///   - stored: how the file stores them; nil for other constants.
  /// - Returns: nil if the operation moves no stored codes.
  static func moved(
    by operation: Operation, _ inputs: [Tensor?], _ stored: [StoredCodes?]
  ) throws(QMError) -> [StoredCodes]? {
    guard case .moved(let sources) = operation.body.elementSource(operandCount: inputs.count),
      sources.contains(where: { stored[$0] != nil })
    else { return nil }
    if case .transpose(let transpose) = operation, let only = stored[0] {
      return [try only.transposed(transpose.permutation)]
    }
    var (codes, fields) = (inputs, inputs)
    var groupSizes: Set<Int> = []
    for source in sources where inputs[source] != nil {
      guard case .codes(let own)? = stored[source] else {
        // A part that the file does not quantize stays as it is, and so does the rest.
        return try operation.evaluate(inputs).map { _ in .elements }
      }
      codes[source] = try own.codes.converted(to: .float32)
      let shape = own.codes.shape
      fields[source] = try Tensor(
        shape, StoredCodes.field(of: own.scales, own.granularity, shape: shape))
      groupSizes.formUnion(own.granularity.groupSizes)
    }
    var results: [StoredCodes] = []
    for (codes, field) in try zip(operation.evaluate(codes), operation.evaluate(fields)) {
      results.append(
        try StoredCodes(codes, Array(field.elements(as: Float.self)), groupSizes: groupSizes))
    }
    return results
  }
}

extension Granularity {
  fileprivate var groupSizes: Set<Int> {
    if case .perGroup(_, let size) = self { [size] } else { [] }
  }
}
