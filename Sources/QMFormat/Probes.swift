import QMOperations
import QMTensor

extension Program {
  /// Inputs of a network with what they give, kept in the file so that a device can check itself
  /// (`schema/qm-format.md`, Probes).
  ///
  /// Probes are no part of ``Program``: running it does not need them, and they no longer hold once
  /// the program is changed. ``Program/encoded(probes:threads:)`` writes them, ``QMFile/probes(limits:)``
  /// reads them.
  public struct Probes: Sendable, Equatable {
    /// One set of inputs.
    public struct Probe: Sendable {
      /// One tensor per input, in the order of the network.
      public let inputs: [Tensor]
      /// What the float network gave: one tensor per output, in the order of the network.
      public let floatOutputs: [Tensor]
      /// SHA-256 (32 bytes) of what the program itself gives, on every machine.
      public let digest: [UInt8]

      /// - Parameters:
      ///   - inputs: one per input of the program, in its order.
      ///   - floatOutputs: of the float network; one per output of the program, in its order.
      ///   - outputs: of the program, in its order.
      public init(inputs: [Tensor], floatOutputs: [Tensor], outputs: [Tensor]) {
        self.init(
          inputs: inputs, floatOutputs: floatOutputs, digest: Probes.digest(of: outputs))
      }

      init(inputs: [Tensor], floatOutputs: [Tensor], digest: [UInt8]) {
        self.inputs = inputs
        self.floatOutputs = floatOutputs
        self.digest = digest
      }
    }

    /// Whether the inputs were made from noise, because the conversion got no samples.
    public let areInputsMade: Bool
    /// At least one, at most ``mostProbes``.
    public let probes: [Probe]

    /// Maximum number of probes in a file.
    public static let mostProbes = 64

    /// Probes from their parts.
    public init(_ probes: [Probe], areInputsMade: Bool) {
      self.probes = probes
      self.areInputsMade = areInputsMade
    }

    /// SHA-256 (32 bytes) of outputs as a section of probes codes tensors.
    /// - Parameter outputs: in the order of the program.
    public static func digest(of outputs: [Tensor]) -> [UInt8] {
      var digest = Digest()
      for tensor in outputs {
        var shape = ByteWriter()
        shape.shape(of: tensor)
        shape.bytes.withUnsafeBytes { digest.update($0) }
        withExtendedLifetime(tensor) { digest.update(tensor.bytes) }
      }
      return digest.finished()
    }

    /// How messages call a probe.
    /// - Parameter index: from 0.
    package static func name(of index: Int) -> String { "probe \(index + 1)" }

    /// Bytes of tensors in a section of probes, without their shapes.
    package static func byteCount(of tensors: some Sequence<Tensor>) -> Int {
      tensors.reduce(0) { $0 + $1.byteCount }
    }
  }
}

extension Program.Probes.Probe: Equatable {
  /// Whether all bits are equal.
  public static func == (left: Self, right: Self) -> Bool {
    left.digest == right.digest
      && left.inputs.elementsEqual(right.inputs) { $0.isIdentical(to: $1) }
      && left.floatOutputs.elementsEqual(right.floatOutputs) { $0.isIdentical(to: $1) }
  }
}

// MARK: Coding

extension Program.Probes {
  func encoded() -> [UInt8] {
    var writer = ByteWriter()
    writer.flag(areInputsMade)
    writer.varint(probes.count)
    for probe in probes {
      for tensor in probe.inputs + probe.floatOutputs {
        writer.shape(of: tensor)
        withExtendedLifetime(tensor) { writer.append(tensor.bytes) }
      }
      writer.append(probe.digest)
    }
    return writer.bytes
  }

  /// - Parameters:
  ///   - inputs: types of the program's inputs.
  ///   - outputs: types of the program's outputs.
  init(
    from reader: inout ByteReader, inputs: [ValueType], outputs: [ValueType]
  ) throws(QMError) {
    areInputsMade = try reader.flag()
    let count = try reader.count(
      of: "probes", limit: Program.Probes.mostProbes,
      byteCount: inputs.count + outputs.count + Program.Probes.digestByteCount)
    guard count > 0 else { throw reader.malformed("a section of probes without probes") }
    var probes: [Probe] = []
    for _ in 0..<count {
      var tensors: [Tensor] = []
      for type in inputs + outputs { tensors.append(try reader.tensor(of: type)) }
      probes.append(
        Probe(
          inputs: Array(tensors[..<inputs.count]), floatOutputs: Array(tensors[inputs.count...]),
          digest: Array(try reader.take(Program.Probes.digestByteCount))))
    }
    self.probes = probes
  }

  private static let digestByteCount = 32

  /// Checks what a reader relies on.
  /// - Throws: `usage` for a number of probes that no file has; `invalidInput` if the tensors are not
  ///   those of the program.
  func check(inputs: [ValueType], outputs: [ValueType]) throws(QMError) {
    guard (1...Program.Probes.mostProbes).contains(probes.count) else {
      throw .usage("\(probes.count) probes, expected 1 to \(Program.Probes.mostProbes)")
    }
    for probe in probes {
      for (tensors, types) in [(probe.inputs, inputs), (probe.floatOutputs, outputs)] {
        guard tensors.count == types.count,
          zip(tensors, types).allSatisfy({
            $0.elementType == $1.elementType && $1.shape.admits($0.shape)
          })
        else {
          throw .invalidInput("a probe has \(tensors.map(\.type)), expected \(types)")
        }
      }
    }
  }
}

extension ByteWriter {
  fileprivate mutating func shape(of tensor: Tensor) {
    varint(tensor.shape.count)
    for extent in tensor.shape { varint(extent) }
  }
}

extension ByteReader {
  fileprivate mutating func tensor(of type: ValueType) throws(QMError) -> Tensor {
    let rank = try varint()
    guard rank == type.shape.rank else {
      throw malformed("a tensor of \(rank) axes, expected \(type.shape.rank)")
    }
    var shape: [Int] = []
    for _ in 0..<rank { shape.append(try varint()) }
    guard type.shape.admits(shape) else {
      throw malformed("a tensor of shape \(shape), expected \(type.shape)")
    }
    let bytes = try take(Tensor.byteCount(of: type.elementType, shape))
    // Reading any other byte as a Swift Bool is undefined.
    guard type.elementType != .bool || bytes.allSatisfy({ $0 <= 1 }) else {
      throw malformed("a bool element is neither 0 nor 1")
    }
    return try Tensor(type.elementType, shape, buffer: Buffer.copying(bytes))
  }
}

extension QMFile {
  /// Reads the probes of the file; nil if it has none. Opening a file leaves them out.
  /// - Throws: `malformed`, `outOfMemory`.
  public func probes(limits: DecodingLimits = .standard) throws(QMError) -> Program.Probes? {
    guard let section = try container.only(.probes, limits) else { return nil }
    return try container.read(section, "probes", limits) { (reader) throws(QMError) in
      try Program.Probes(
        from: &reader, inputs: listing.inputs.map { listing.values[$0].type },
        outputs: listing.outputs.map { listing.values[$0.value].type })
    }
  }
}
