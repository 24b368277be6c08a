import CQMKernels
import QMTensor

/// The C functions of one product kernel.
struct ProductTable: Hashable, @unchecked Sendable {
  private let pointer: UnsafePointer<qm_product>

  /// The fastest exact kernel for the operands; nil if only the reference loops can compute them.
  /// - Parameters:
  ///   - depth: numbers of a tap that a column sums.
  ///   - columns: number of columns of the weights.
  init?(
    for kernels: KernelSet, input: ElementType, weights: Operand, depth: Int, columns: Int,
    isDepthwise: Bool = false
  ) {
    guard let set = kernels.number else { return nil }
    let count = Int64(columns)
    if weights.type.elementType == .float32 {
      pointer =
        isDepthwise
        ? qm_depthwise_float32(set)
        : qm_product_float32_n(set, count) ?? qm_product_float32(set)
    } else if input == .int16 {
      guard !isDepthwise else { return nil }
      pointer = qm_product_int16_n(set, count) ?? qm_product_int16(set)
    } else {
      // Validation proves the code range only for constant weights.
      var bits = 8
      if case .weights(let width, _) = weights.type.quantization, weights.constant != nil {
        bits = width.bits
      }
      pointer =
        isDepthwise
        ? qm_depthwise_int8(set)
        : qm_product_int8_n(set, Int32(bits), Int64(depth), count)
          ?? qm_product_int8(set, Int32(bits))
    }
  }

  /// The kernel for matrices of few rows whose weights stay packed in memory; nil if it is no
  /// faster.
  init?(
    packedFor kernels: KernelSet, input: ElementType, weights: Operand, depth: Int, columns: Int
  ) {
    guard let set = kernels.number, input == .int8, weights.constant != nil,
      depth >= Self.leastDepth, case .weights(let bits, _) = weights.type.quantization,
      qm_product_int8_n(set, Int32(bits.bits), Int64(depth), Int64(columns)) == nil,
      let table = qm_product_packed_int8(set, Int32(bits.bits))
    else { return nil }
    pointer = table
  }

  /// From this depth on, packed weights take less memory than others.
  private static let leastDepth = 16

  var name: String { String(cString: pointer.pointee.name) }
  /// Number of columns of a panel.
  var columns: Int { Int(pointer.pointee.columns) }
  var inputByteCount: Int { Int(pointer.pointee.input_bytes) }
  var slackByteCount: Int { Int(pointer.pointee.slack_bytes) }
  /// Whether a prepared input tile is split by panel: each row of positions holds the channels of
  /// one panel together.
  var splitsPanels: Bool { pointer.pointee.splits_panels }
  /// Whether the kernel reads unshifted codes and takes their zero point from the block.
  var readsCodes: Bool { pointer.pointee.reads_codes }

  func panelByteCount(taps: Int, depth: Int) -> Int {
    Int(pointer.pointee.panel_bytes(Int64(taps), Int64(depth)))
  }

  func pack(_ weights: qm_weights, into panels: UnsafeMutableRawPointer) {
    withUnsafePointer(to: weights) { pointer.pointee.pack($0, panels) }
  }

  func prepare(_ tile: qm_input_tile) {
    withUnsafePointer(to: tile) { pointer.pointee.prepare($0) }
  }

  /// Sums the depth of consecutive rows that ``prepare(_:)`` wrote: their codes if the kernel
  /// ``readsCodes``, otherwise those minus their zero point.
  func sumRows(
    _ rows: UnsafeRawPointer, count: Int, depth: Int, into sums: UnsafeMutablePointer<Int32>
  ) {
    pointer.pointee.row_sums(rows, Int64(count), Int64(depth), sums)
  }

  func multiply(_ block: qm_product_block) {
    withUnsafePointer(to: block) { pointer.pointee.multiply($0) }
  }
}
