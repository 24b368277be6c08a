import CQMKernels
import QMTensor

/// Products of float32 rows and packed weights, for the inputs and the states of a recurrent layer.
struct RowProduct: Sendable {
  /// What the product reads of a row: its float32 numbers, the numbers rounded to those that codes
  /// represent, or its codes.
  enum Rows { case float, rounded, codes }

  let table: ProductTable
  let quantize: qm_quantize_kernels
  let rows: Rows
  let depth: Int
  /// Granularity of the weight scales; nil for float32 weights.
  let granularity: Granularity?

  init(
    _ table: ProductTable, _ set: qm_kernel_set, _ inputs: Recurrent.Inputs, weights: ValueType,
    depth: Int
  ) {
    self.table = table
    quantize = qm_quantize_for(set)
    self.depth = depth
    if case .weights(_, let granularity) = weights.quantization {
      self.granularity = granularity
      rows = .codes
    } else {
      granularity = nil
      rows = inputs == .roundedPerRow ? .rounded : .float
    }
  }

  /// Elements from one prepared row to the next, including the row's slack.
  var pitch: Int { depth + table.slackByteCount / table.inputByteCount }
  var rowByteCount: Int { pitch * table.inputByteCount }

  /// Rounds a row to codes with a scale and zero point of its own.
  /// - Parameters:
  ///   - parameters: memory for scale and zero point.
  ///   - codes: memory for `depth` codes.
  func prepare(
    _ row: UnsafePointer<Float>, _ output: UnsafeMutableRawPointer,
    parameters: UnsafeMutablePointer<Float>, codes: UnsafeMutablePointer<Int8>
  ) {
    quantize.encode_rows(row, 1, Int64(depth), codes, parameters)
    let zeroPoint = Int32(parameters[1])
    if rows == .codes {
      table.prepare(
        qm_input_tile(
          input: codes, input_extents: (1, 1, 1), origin: (0, 0, 0), extents: (1, 1, 1),
          channels: Int64(depth), pitch: Int64(depth), zero_point: zeroPoint, output: output))
    } else {
      let type = qm_codes(
        element_type: Int32(QM_INT8), scale: parameters[0], zero_point: zeroPoint)
      quantize.decode(type, codes, output.assumingMemoryBound(to: Float.self), Int64(depth))
    }
  }

  /// `output[row][column] = row · panels[column] + bias[column]`, for prepared rows.
  func multiply(
    rows count: Int, _ input: UnsafeRawPointer, pitch: Int,
    parameters: UnsafePointer<Float>?, panels: UnsafeRawPointer, columns: Int,
    multipliers: UnsafePointer<Float>?, bias: UnsafePointer<Float>?,
    _ output: UnsafeMutablePointer<Float>, outputPitch: Int
  ) {
    var block = qm_product_block()
    block.input = input
    block.extents = (1, 1, Int64(count))
    block.input_strides = (0, 0, Int64(pitch))
    block.output_strides = (0, 0, Int64(outputPitch))
    block.tap_count = 1
    block.depth = Int64(depth)
    block.weights = panels
    block.columns = Int64(columns)
    block.epilogue.bias = bias
    block.epilogue.residual_number = QM_NUMBER_NONE
    block.epilogue.output = UnsafeMutableRawPointer(output)
    block.epilogue.output_number = QM_NUMBER_FLOAT32
    if rows == .codes {
      block.epilogue.multipliers = multipliers
      block.epilogue.row_parameters = parameters
    }
    withUnsafePointer(to: Int64(0)) { tap in
      block.taps = tap
      table.multiply(block)
    }
  }
}
