import QMTensor

/// How the right operand of a product lies in memory.
public enum RightLayout: UInt8, Hashable, Sendable {
  /// `[…, K, N]`, as ONNX's MatMul has it.
  case depthFirst = 0
  /// `[…, N, K]`: one row per output channel, as weights are stored.
  case channelsFirst = 1
}

/// Matrix product `[…, M, K] × […, K, N] → […, M, N]` with the leading axes broadcast.
/// Operands of rank 1 do not occur: readers make them matrices. Input positions: ``ProductOperand``.
public struct MatrixMultiply: OperationProtocol {
  public static let name = "MatrixMultiply"

  public var rightLayout: RightLayout
  public var epilogue: Epilogue

  public init(rightLayout: RightLayout, epilogue: Epilogue = Epilogue()) {
    self.rightLayout = rightLayout
    self.epilogue = epilogue
  }
}
