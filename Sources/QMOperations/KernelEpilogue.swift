import CQMKernels
import QMTensor

/// The epilogue of a kernel: what is known of it before the run, and its form in C.
struct KernelEpilogue: Sendable {
  let epilogue: Epilogue
  let input: Quantization
  let weights: Quantization
  let bias: ElementType?
  let residual: ValueType?
  let isInteger: Bool
  /// Bytes of an element of the input.
  let inputElementByteCount: Int

  init(_ epilogue: Epilogue, operands: [Operand?]) {
    func type(_ index: Int) -> ValueType? {
      index < operands.count ? operands[index]?.type : nil
    }
    self.epilogue = epilogue
    input = type(ProductOperand.input)?.quantization ?? .none
    weights = type(ProductOperand.weights)?.quantization ?? .none
    bias = type(ProductOperand.bias)?.elementType
    residual = type(ProductOperand.residual)
    let elementType = type(ProductOperand.input)?.elementType ?? .float32
    isInteger = elementType != .float32
    inputElementByteCount = elementType.byteCount
  }

  var isDynamic: Bool { if case .dynamic = input { true } else { false } }

  /// Whether the whole input has one scale and zero point of the run.
  var hasOnePairOfRun: Bool { input == .dynamic(axes: 0) }

  /// The zero point of the weights.
  var weightsZeroPoint: Int32 { if case .fixed(_, let zero) = weights { zero } else { 0 } }

  static func operand(_ index: Int, of memory: Kernel.Memory) -> UnsafeMutableRawPointer? {
    index < memory.inputs.count ? memory.inputs[index] : nil
  }

  /// Scale and zero point of the input in row or sample `row`.
  func inputParameters(row: Int, of memory: Kernel.Memory) -> (scale: Float, zeroPoint: Int32) {
    switch input {
    case .fixed(let scale, let zeroPoint): return (scale, zeroPoint)
    case .none, .weights: return (1, 0)
    case .dynamic(let axes):
      let parameters = Self.operand(ProductOperand.inputParameters, of: memory)!
        .assumingMemoryBound(to: Float.self)
      let place = axes == 0 ? 0 : 2 * row
      return (parameters[place], QMOperations.zeroPoint(fromParameter: parameters[place + 1]))
    }
  }

  /// Writes `inputScale · weight scale` for each column, or the weight scale itself without an
  /// input scale.
  func fillMultipliers(
    _ multipliers: UnsafeMutablePointer<Float>, count: Int, inputScale: Float?,
    of memory: Kernel.Memory
  ) {
    for column in 0..<count {
      let scale = weightScale(column, of: memory)
      multipliers[column] = inputScale.map { $0 * scale } ?? scale
    }
  }

  private func weightScale(_ column: Int, of memory: Kernel.Memory) -> Float {
    switch weights {
    case .fixed(let scale, _): return scale
    case .weights(_, let granularity):
      let scales = Self.operand(ProductOperand.weightScales, of: memory)!
        .assumingMemoryBound(to: Float.self)
      return scales[granularity == .perTensor ? 0 : column]
    case .none, .dynamic: return 1
    }
  }

  /// The epilogue of a block whose first output element is `element`, in column `column`.
  /// - Parameter output: address for that element; nil for its place in the output.
  func block(
    _ memory: Kernel.Memory, element: Int, column: Int, multipliers: UnsafePointer<Float>?,
    output: UnsafeMutableRawPointer? = nil
  ) -> qm_epilogue {
    var end = qm_epilogue()
    if isInteger { end.multipliers = multipliers.map { $0 + column } }
    if let bias, let start = Self.operand(ProductOperand.bias, of: memory) {
      if bias == .int32 {
        end.integer_bias = UnsafePointer(start.assumingMemoryBound(to: Int32.self)) + column
      } else {
        end.bias = UnsafePointer(start.assumingMemoryBound(to: Float.self)) + column
      }
    }
    end.residual_number = QM_NUMBER_NONE
    if let residual, let start = Self.operand(ProductOperand.residual, of: memory) {
      end.residual = UnsafeRawPointer(start + element * residual.elementType.byteCount)
      end.residual_number = residual.elementType == .float32 ? QM_NUMBER_FLOAT32 : QM_NUMBER_INT8
      if case .fixed(let scale, let zeroPoint) = residual.quantization {
        end.residual_scale = scale
        end.residual_zero_point = zeroPoint
      }
    }
    if let function = epilogue.function {
      end.has_function = true
      end.function = function.unary
    }
    if let second = epilogue.secondFunction {
      end.has_second_function = true
      end.second_function = second.unary
    }
    end.output =
      output ?? memory.outputs[0]! + element * epilogue.output.elementType.byteCount
    switch epilogue.output {
    case .float32: end.output_number = QM_NUMBER_FLOAT32
    case .quantized(let elementType, let scale, let zeroPoint):
      end.output_number = elementType == .int8 ? QM_NUMBER_INT8 : QM_NUMBER_INT16
      end.inverse_scale = 1 / scale
      end.zero_point = zeroPoint
    }
    return end
  }
}
