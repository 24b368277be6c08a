import QMFormat
import QMOperations
import QMTensor

/// Number and size of the weights in a file.
///
/// Weights are the constants that convolutions, matrix products and recurrent layers read as their
/// weights, and the tables that Gather reads.
public struct WeightSummary: Sendable, Hashable {
  /// Number of elements of all weights.
  public private(set) var weightCount = 0
  /// Number of elements of the weights that are codes.
  public private(set) var quantizedWeightCount = 0
  /// Total number of bits of all weights, by the width of their codes or elements.
  public private(set) var codeBitCount = 0
  /// Size of the weights in the file, in bytes, without their scales.
  public private(set) var storedByteCount = 0
  /// Size of their scales in the file, in bytes.
  public private(set) var scaleByteCount = 0
  /// The constants with codes of weights, and the size of weights that are no codes, in bytes.
  private var codes: [Int] = []
  private var floatByteCount = 0

  /// Fraction of the weights that are codes, 0 to 1; 1 if there are no weights.
  public var quantizedShare: Double {
    weightCount == 0 ? 1 : Double(quantizedWeightCount) / Double(weightCount)
  }
  /// Average number of bits per weight, by the width of its code or element.
  public var codeBitsPerWeight: Double {
    weightCount == 0 ? 0 : Double(codeBitCount) / Double(weightCount)
  }
  /// Average number of bits per weight in the file, without scales.
  public var storedBitsPerWeight: Double {
    weightCount == 0 ? 0 : Double(8 * storedByteCount) / Double(weightCount)
  }

  /// Average number of bits per weight in the file, with scales.
  public var storedBitsPerWeightWithScales: Double {
    weightCount == 0 ? 0 : Double(8 * (storedByteCount + scaleByteCount)) / Double(weightCount)
  }

  /// The order-0 entropy of the codes of each tensor, in bits per weight; weights that are no codes
  /// count as they are stored.
  /// - Parameter tensors: the constants of the file.
  public func entropyPerWeight(_ tensors: [Program.Constant]) -> Double {
    guard weightCount > 0 else { return 0 }
    let entropy = codes.reduce(8 * floatByteCount) { $0 + tensors[$1].entropy }
    return Double(entropy) / Double(weightCount)
  }

  /// Counts the weights of an opened file.
  public init(_ file: QMFile) {
    let listing = file.listing
    let stored = file.storedByteCounts
    let scales = listing.scalesOfCodes
    for constant in listing.weightConstants {
      add(listing.constants[constant], storedByteCount: stored[constant])
      if case .weights = listing.constants[constant].quantization {
        codes.append(constant)
      } else {
        floatByteCount += stored[constant]
      }
      scaleByteCount += scales[constant].map { stored[$0] } ?? 0
    }
  }

  private mutating func add(_ type: ValueType, storedByteCount: Int) {
    let count = type.shape.extents?.reduce(1, *) ?? 0
    var width = 8 * type.elementType.byteCount
    if case .weights(let bits, _) = type.quantization { width = bits.bits }
    weightCount += count
    if type.quantization != .none { quantizedWeightCount += count }
    codeBitCount += count * width
    self.storedByteCount += storedByteCount
  }
}

extension ProgramListing {
  /// The constants that nodes read as weights or as tables of numbers, in the order of the nodes, each
  /// once.
  var weightConstants: [Int] {
    let dequantized = dequantizedConstants
    var found: [Int] = []
    var seen: Set<Int> = []
    for node in nodes {
      let operands = node.inputs.map { $0.map { Operand(values[$0].type) } }
      let body = node.operation.body
      let tables = body.weightOperands(of: operands).filter { $0.use == .table }
      for position in body.accumulators.products.map(\.weights) + tables.map(\.position) {
        guard position < node.inputs.count, let value = node.inputs[position],
          let constant = values[value].constant ?? dequantized[value],
          seen.insert(constant).inserted, holdsWeights(constants[constant])
        else { continue }
        found.append(constant)
      }
    }
    return found
  }

  /// Tables of integers hold indices and shapes, not weights.
  private func holdsWeights(_ type: ValueType) -> Bool {
    type.elementType.isFloatingPoint || type.quantization != .none
  }

  /// For each output of a Dequantize, the constant that it dequantizes.
  var dequantizedConstants: [Int: Int] {
    var constants: [Int: Int] = [:]
    for node in nodes {
      guard case .dequantize = node.operation, let codes = node.inputs.first ?? nil,
        let output = node.outputs.first
      else { continue }
      constants[output] = values[codes].constant
    }
    return constants
  }
}
