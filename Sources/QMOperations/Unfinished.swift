import QMTensor

// Scaffolding until each family has its own rules: deleted when the last one has.
extension OperationProtocol {
  public func outputTypes(for operands: [Operand?]) throws(QMError) -> [ValueType] {
    throw .unsupported("\(Self.name) has no type rule")
  }
  public func reference(_ inputs: [TensorView?], _ outputs: [TensorView]) throws(QMError) {
    throw .unsupported("\(Self.name) has no reference loops")
  }
  public func kernel(
    for operands: [Operand?], outputs: [ValueType], packed: Buffer?, kernels: KernelSet
  ) throws(QMError) -> Kernel? { nil }
}
