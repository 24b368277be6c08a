import QMTensor

extension Operation {
  /// Runs this operation on concrete inputs.
  /// - Parameters:
  ///   - inputs: nil for an optional input that is absent.
  ///   - quantizations: one per input, in order; `.none` where the array is shorter.
  ///   - kernels: every set gives the same bits.
  ///   - threads: the threads that share the work.
  /// - Returns: the outputs, in order.
  /// - Throws: errors of the type rule or of the operation; `malformed` if the shape of an output
  ///   stays unknown.
  public func evaluate(
    _ inputs: [Tensor?], quantizations: [Quantization] = [], kernels: KernelSet = .best,
    threads: ThreadPool = ThreadPool(threadCount: 1)
  ) throws(QMError) -> [Tensor] {
    if case .loop(let loop) = self {
      return try loop.run(
        inputs, kernels: kernels, threads: threads, byteLimit: Buffer.physicalByteCount)
    }
    var operands: [Operand?] = []
    for (index, input) in inputs.enumerated() {
      let quantization = index < quantizations.count ? quantizations[index] : .none
      operands.append(
        input.map {
          Operand(ValueType($0.elementType, Shape($0.shape), quantization), constant: $0)
        })
    }
    let types = try body.outputTypes(for: operands)
    var outputs: [Tensor] = []
    for type in types {
      guard let extents = type.shape.extents else {
        throw .malformed("the inputs do not determine the output shape \(type.shape)")
      }
      outputs.append(try Tensor(zeros: type.elementType, extents))
    }
    let step = try PreparedNode(
      self, operands: operands, outputs: types,
      packed: try body.pack(operands, for: kernels, .fastest),
      kernels: kernels)
    let scratch = try Buffer.allocate(byteCount: step.kernel.scratchByteCount(threads.threadCount))
    let inputPointers = inputs.map { $0.map { $0.buffer.base + $0.byteOffset } }
    defer { withExtendedLifetime((inputs, outputs)) {} }
    let outputPointers = outputs.map { Optional($0.buffer.base + $0.byteOffset) }
    try withStandardFloatEnvironment { () throws(QMError) in
      try inputPointers.withUnsafeBufferPointer { (inputPointers) throws(QMError) in
        try outputPointers.withUnsafeBufferPointer { (outputPointers) throws(QMError) in
          try step.kernel.run(
            Kernel.Memory(
              inputs: inputPointers, outputs: outputPointers, scratch: scratch.base,
              threads: threads))
        }
      }
    }
    return outputs
  }
}

extension ValueType {
  /// Whether the shape is known and has no elements.
  package var isEmpty: Bool { shape.extents?.contains(0) ?? false }
}

/// A node with the kernel that runs it on concrete shapes: a fast one, or its reference loops.
package struct PreparedNode {
  package let kernel: Kernel
  /// False if the kernel is the reference loops.
  package let isFast: Bool

  package init(
    _ operation: Operation, operands: [Operand?], outputs: [ValueType], packed: PackedWeights?,
    kernels: KernelSet
  ) throws(QMError) {
    guard !outputs.allSatisfy(\.isEmpty) || outputs.isEmpty else {
      (kernel, isFast) = (Kernel(name: "nothing to compute") { (_) throws(QMError) in }, true)
      return
    }
    // Fast kernels may rely on operands that have elements, unless only they read packed weights.
    if kernels != .reference,
      packed != nil || !operands.contains(where: { $0?.type.isEmpty ?? false }),
      let fast = try operation.body.kernel(
        for: operands, outputs: outputs, packed: packed, kernels: kernels)
    {
      kernel = fast
      isFast = true
    } else {
      isFast = false
      kernel = try PreparedNode.reference(operation, operands: operands, outputs: outputs)
    }
  }

  private static func reference(
    _ operation: Operation, operands: [Operand?], outputs: [ValueType]
  ) throws(QMError) -> Kernel {
    struct Description {
      let elementType: ElementType
      let extents: [Int]
      let quantization: Quantization

      init(_ type: ValueType) throws(QMError) {
        guard let extents = type.shape.extents else {
          throw .internalFault("a kernel needs a concrete shape, found \(type.shape)")
        }
        elementType = type.elementType
        self.extents = extents
        quantization = type.quantization
      }

      func view(_ base: UnsafeMutableRawPointer) -> TensorView {
        TensorView(elementType, extents, quantization, base: base)
      }
    }
    var inputDescriptions: [Description?] = []
    for operand in operands {
      inputDescriptions.append(
        try operand.map { (operand) throws(QMError) -> Description in
          try Description(operand.type)
        })
    }
    var outputDescriptions: [Description] = []
    for type in outputs { outputDescriptions.append(try Description(type)) }
    let (inputs, results) = (inputDescriptions, outputDescriptions)
    return Kernel(name: "\(operation.name) reference") { (memory) throws(QMError) in
      var inputViews: [TensorView?] = []
      for (index, description) in inputs.enumerated() {
        if let description, let base = memory.inputs[index] {
          inputViews.append(description.view(base))
        } else {
          inputViews.append(nil)
        }
      }
      var outputViews: [TensorView] = []
      for (index, description) in results.enumerated() {
        guard let base = memory.outputs[index] else {
          throw .internalFault("an output has no memory")
        }
        outputViews.append(description.view(base))
      }
      try operation.body.reference(inputViews, outputViews)
    }
  }
}
