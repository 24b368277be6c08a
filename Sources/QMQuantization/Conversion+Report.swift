import QMFormat
import QMReport
import QMTensor

extension Conversion {
  /// How close each output is to the float network, in the order of the outputs; empty without
  /// samples.
  public var outputReports: [OutputReport] {
    program.outputs.compactMap { output in
      comparisons[output.name].map { OutputReport(output.name, $0, samples: judgingSamples) }
    }
  }
}

extension Conversion.Alternative {
  /// The choice as a report states it.
  public var report: ConversionReport.Alternative {
    .init(
      name: name, signalToNoiseDecibels: signalToNoiseDecibels, price: price, isChosen: isChosen)
  }
}

extension Conversion.WeightCost {
  /// The cost as a report states it.
  public var report: DryRunReport.WeightCost {
    .init(
      node: node, weights: weights, count: count, bytes: byteCount, errorShare: errorShare,
      decibelsPerKilobyte: decibelsPerKilobyte)
  }
}

extension BudgetTrials.Trial {
  /// The trial as a report states it.
  /// - Parameter shown: converts losses to the unit of the report.
  public func report(showing shown: (Double) -> Double = { $0 }) -> BudgetReport.Trial {
    .init(
      bits: bits, predictedBytes: predictedByteCount, bytes: byteCount,
      predictedDecibels: predictedSignalToNoise, signalToNoiseDecibels: signalToNoise,
      predictedDrop: predictedDrop.map(shown), drop: drop.map(shown))
  }
}

extension Checkpoint {
  /// How each array is stored: form, bytes and error.
  /// - Parameter file: the bytes to which the program was encoded.
  /// - Throws: `malformed` if the bytes are not a `.qm` file; `outOfMemory`.
  public func arrayReports(in file: [UInt8]) throws(QMError) -> [ArrayReport] {
    let copy = try file.withUnsafeBytes { (bytes) in
      Result { () throws(QMError) in try Buffer.copying(bytes) }
    }.get()
    let byteCounts = try QMFile(copy).storedByteCounts
    // Codes and scales, by the value into which they are dequantized.
    var operands: [Int: [Int]] = [:]
    for node in program.nodes { operands[node.outputs[0]] = node.inputs.compactMap(\.self) }
    return program.outputs.map { output in
      let stored = operands[output.value] ?? [output.value]
      let comparison = comparisons[output.name].flatMap { stored.count > 1 ? $0 : nil }
      return ArrayReport(
        name: output.name, shape: program.values[output.value].type.shape.extents ?? [],
        form: Checkpoint.form(of: program.values[stored[0]].type),
        bytes: stored.compactMap { program.values[$0].constant }
          .reduce(0) { $0 + byteCounts[$1] },
        signalToNoiseDecibels: comparison?.signalToNoise,
        largestDifference: comparison?.largestDifference)
    }
  }

  private static func form(of type: ValueType) -> String {
    guard case .weights(let bits, let granularity) = type.quantization else {
      return "\(type.elementType)"
    }
    return "\(bits.bits)-bit \(granularity.shortDescription)"
  }
}
