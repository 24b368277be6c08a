import QMFormat
import QMTensor

extension Model {
  /// What the probes of a file say about a model on this machine.
  public struct SelfTest: Sendable, Hashable {
    /// How far an output is from that of the float network, over the probes.
    public struct Output: Sendable, Hashable {
      /// Its name in the network.
      public let name: String
      /// SQNR in dB, the median over the probes; infinite if nothing differs.
      public let medianSignalToNoise: Double
      /// SQNR in dB of the worst probe.
      public let worstSignalToNoise: Double
    }

    /// For each probe, whether the outputs have the digest in the file, and so the same bits as where
    /// the file was made.
    public let agreements: [Bool]
    /// The outputs, in the order of the network. They are compared element by element
    /// (``Comparison``); the measurements of the file judge probabilities by their log odds.
    public let outputs: [Output]
    /// Whether the inputs were made from noise: then the SQNR does not bound that of real inputs.
    public let areInputsMade: Bool

    /// Number of probes.
    public var probeCount: Int { agreements.count }
    /// Whether every probe has its digest.
    public var passed: Bool { agreements.allSatisfy(\.self) }
    /// SQNR in dB of the worst output, the median over the probes.
    public var medianSignalToNoise: Double { outputs.map(\.medianSignalToNoise).min() ?? .infinity }
    /// SQNR in dB of the worst probe of the worst output.
    public var worstSignalToNoise: Double { outputs.map(\.worstSignalToNoise).min() ?? .infinity }
  }

  /// Runs the probes of the file that the model was opened from, which is read again: an open model
  /// does not hold them.
  ///
  /// ```swift
  /// let model = try Model(contentsOf: "out.qm")
  /// guard try model.selfTest().passed else { return }  // this machine computes something else
  /// ```
  ///
  /// - Returns: whether the outputs have the bits that the file states, and their SQNR.
  /// - Throws: `usage` if the model was not opened from a path, or if the file has no probes;
  ///   `invalidInput` if the file has changed; `cannotOpen`, `malformed`; the error of a run, with the
  ///   probe as context.
  public func selfTest() throws(QMError) -> SelfTest {
    guard let path else {
      throw .usage("the model was not opened from a path; give the bytes of its file")
    }
    return try within(.file(path)) { () throws(QMError) in
      try selfTest(QMFile(reading: path))
    }
  }

  /// Runs the probes of the file that the model was opened from, which is in memory.
  /// - Parameters:
  ///   - bytes: the content of the file.
  ///   - session: a session of this model, which runs the probes: ``Session/cancel()`` ends the one
  ///     that it runs. Without it a network from a stranger whose loop has no end holds the caller.
  /// - Throws: as ``selfTest()``; `cancelled`; `usage` if the session is not of this model.
  public func selfTest(
    bytes: some Collection<UInt8>, in session: Session? = nil
  ) throws(QMError) -> SelfTest {
    try selfTest(QMFile(Buffer.copying(bytes)), in: session)
  }

  private func selfTest(_ file: QMFile, in session: Session? = nil) throws(QMError) -> SelfTest {
    guard file.container.digest == contentDigest else {
      throw .invalidInput("the file is not the one that the model was opened from")
    }
    guard let probes = try file.probes() else {
      throw .usage("the file has no probes", remedies: .convertWithProbes)
    }
    return try selfTest(probes, in: session)
  }

  /// Runs probes of this model.
  /// - Throws: the error of a run, with the probe as context.
  package func selfTest(
    _ probes: Program.Probes, in session: Session? = nil
  ) throws(QMError) -> SelfTest {
    let session = session ?? Session(self)
    guard session.model === self else {
      throw .usage("the session runs another model; make one of this model")
    }
    var agreements: [Bool] = []
    var comparisons = [Comparison](repeating: Comparison(), count: outputs.count)
    for (index, probe) in probes.probes.enumerated() {
      try within(.sample(Program.Probes.name(of: index))) { () throws(QMError) in
        let results = try session.run(
          Dictionary(zip(inputs.map(\.name), probe.inputs), uniquingKeysWith: { first, _ in first })
        )
        let found = outputs.compactMap { results[$0.name] }
        agreements.append(Program.Probes.digest(of: found) == probe.digest)
        for (number, (float, tensor)) in zip(probe.floatOutputs, found).enumerated() {
          // An output whose numbers decide its shape is wrong altogether if that differs.
          if float.shape == tensor.shape {
            try comparisons[number].add(reference: float, measured: tensor)
          } else {
            comparisons[number].add([0], [.infinity], rowLength: 1)
          }
        }
      }
    }
    return SelfTest(
      agreements: agreements,
      outputs: zip(outputs, comparisons).map { output, comparison in
        SelfTest.Output(
          name: output.name, medianSignalToNoise: comparison.medianSignalToNoise,
          worstSignalToNoise: comparison.worstSignalToNoise)
      }, areInputsMade: probes.areInputsMade)
  }
}
