import ArgumentParser
import QMFormat
import QMOperations
import QMReport
import QMRuntime
import QMTensor

/// `qinspect`: what a `.qm` file holds.
public struct InspectCommand: ParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "qinspect",
    abstract: "Show what a .qm file holds, and how every node runs.",
    version: toolVersion)

  @Argument(help: ArgumentHelp("The file.", valueName: "out.qm"))
  var file: String

  @OptionGroup var console: ConsoleOptions

  public init() {}

  public func run() throws {
    let console = Console(tool: "qinspect", self.console)
    let opened = try QMFile(path: file)
    let work = try within(.file(file)) { () throws(QMError) -> Work? in
      try InspectCommand.work(Program(opened))
    }
    let report = Report(file, opened, work)
    show(report, console)
    try console.json(report)
    try console.finish()
  }

  /// Multiply-adds of a run on seeded inputs; nil where none of the extents that are tried run.
  private static func work(_ program: Program) throws(QMError) -> Work? {
    let model = try Model(program, options: Model.Options(runByteLimit: 1 << 30))
    guard let inputs = try? SeededInputs(model).tensors(seed: 0) else { return nil }
    return try Work(Session(model), inputs)
  }

  // MARK: Report

  private struct Port: Encodable {
    let name: String
    let type: String
    let shape: [String]

    init(_ name: String, _ type: ValueType) {
      self.name = name
      self.type = "\(type.elementType)"
      shape = type.shape.axes.map(\.description)
    }
  }

  private struct Constant: Encodable {
    let name: String
    let type: String
    let bits: Int
    let shape: [Int]
    let granularity: String?
    let storedBytes: Int
    let inflatedBytes: Int
    let layout: String

    enum CodingKeys: String, CodingKey {
      case name, type, bits, shape, granularity, layout
      case storedBytes = "stored_bytes"
      case inflatedBytes = "inflated_bytes"
    }
  }

  private struct Entry: Encodable {
    let key: String
    let value: String
  }

  private struct Measurement: Encodable {
    let output: String
    let measure: String
    let value: Double
    let samples: Int
  }

  private struct Report: Encodable {
    let file: String
    let bytes: Int
    let digest: String
    let producer: String
    let source: String
    let sourceDigest: String
    let recipe: [Entry]
    let entries: [Entry]
    let measurements: [Measurement]
    let inputs: [Port]
    let outputs: [Port]
    let constants: [Constant]
    let nodes: [NodeReport]
    let weights: Int
    let bitsPerWeightInCodes: Double
    let bitsPerWeightInFile: Double
    let quantizedWeightShare: Double
    let multiplyAdds: Int?
    let integerMultiplyAddShare: Double?

    enum CodingKeys: String, CodingKey {
      case file, bytes, digest, producer, source, recipe, entries, measurements, inputs, outputs
      case constants, nodes, weights
      case sourceDigest = "source_sha256"
      case bitsPerWeightInCodes = "bits_per_weight_in_codes"
      case bitsPerWeightInFile = "bits_per_weight_in_file"
      case quantizedWeightShare = "quantized_weight_share"
      case multiplyAdds = "multiply_adds"
      case integerMultiplyAddShare = "integer_multiply_add_share"
    }

    init(_ path: String, _ opened: QMFile, _ work: Work?) {
      let (outline, container) = (opened.outline, opened.container)
      let metadata = outline.metadata
      file = path
      bytes = container.byteCount
      digest = Units.hexadecimal(container.digest)
      producer = metadata.producer
      source = metadata.sourceName
      sourceDigest = Units.hexadecimal(metadata.sourceDigest)
      recipe = metadata.recipe.map { Entry(key: $0.key, value: $0.value) }
      entries = metadata.entries.map { Entry(key: $0.key, value: $0.value) }
      measurements = metadata.measurements.map {
        Measurement(
          output: outline.outputs[$0.output].name, measure: $0.measure.name,
          value: Double($0.value), samples: $0.sampleCount)
      }
      inputs = outline.inputs.map { Port(outline.values[$0].name, outline.values[$0].type) }
      outputs = outline.outputs.map { Port($0.name, outline.values[$0.value].type) }
      constants = Report.constants(opened)
      nodes = outline.nodes.map { NodeReport($0, outline.way(of: $0)) }
      let summary = WeightSummary(opened)
      weights = summary.weightCount
      bitsPerWeightInCodes = summary.codeBitsPerWeight
      bitsPerWeightInFile = summary.storedBitsPerWeight
      quantizedWeightShare = summary.quantizedShare
      multiplyAdds = work?.multiplyAdds
      integerMultiplyAddShare = work?.integerShare
    }

    private static func constants(_ opened: QMFile) -> [Constant] {
      let outline = opened.outline
      var names = [String](repeating: "", count: outline.constants.count)
      for value in outline.values {
        if let constant = value.constant { names[constant] = value.name }
      }
      var layouts = [String](repeating: "", count: outline.constants.count)
      for section in outline.dataSections {
        for constant in section.constants { layouts[constant] = section.layout.name }
      }
      let stored = opened.storedByteCounts
      return outline.constants.enumerated().map { index, type in
        var bits = 8 * type.elementType.byteCount
        var granularity: String?
        if case .weights(let width, let kind) = type.quantization {
          (bits, granularity) = (width.bits, kind.shortDescription)
        }
        let extents = type.shape.extents ?? []
        return Constant(
          name: names[index], type: "\(type.elementType)", bits: bits, shape: extents,
          granularity: granularity, storedBytes: stored[index],
          inflatedBytes: extents.reduce(type.elementType.byteCount, *), layout: layouts[index])
      }
    }
  }

  private func show(_ report: Report, _ console: Console) {
    console.line("\(report.file): \(Units.bytes(report.bytes)), made by \(report.producer)")
    console.line("content \(report.digest)")
    if !report.sourceDigest.isEmpty {
      console.line("source  \(report.sourceDigest)")
    }
    for entry in report.recipe + report.entries {
      console.line("  \(entry.key.abbreviated): \(entry.value.abbreviated)")
    }
    for (kind, ports) in [("input", report.inputs), ("output", report.outputs)] {
      for port in ports {
        console.line(
          "\(kind) \(port.name.abbreviated): \(port.type) [\(port.shape.joined(separator: ", "))]")
      }
    }
    for measurement in report.measurements {
      console.line(
        "measured \(measurement.output.abbreviated): \(measurement.measure) "
          + "\(Units.significant(measurement.value, digits: 6)) (\(Units.count(measurement.samples, "sample")))")
    }
    console.line()
    console.table(
      ["constant", "bits", "extents", "scales", "stored", "inflated", "layout"],
      report.constants.map {
        [
          $0.name.abbreviated, "\($0.bits)", "\($0.shape)", $0.granularity ?? "–",
          Units.bytes($0.storedBytes), Units.bytes($0.inflatedBytes), $0.layout,
        ]
      }, trailing: [1, 4, 5])
    console.line()
    console.table(of: report.nodes)
    console.line()
    console.line(
      "\(Units.count(report.weights, "weight")): \(Units.fixed(report.bitsPerWeightInCodes, 2)) bits "
        + "each in codes, \(Units.fixed(report.bitsPerWeightInFile, 2)) in the file; "
        + "\(Units.percent(report.quantizedWeightShare)) of them quantized")
    if let share = report.integerMultiplyAddShare, let count = report.multiplyAdds {
      console.line(
        "\(Units.fixed(Double(count) / 1e6, 3)) million multiply-adds a run, "
          + "\(Units.percent(share)) of them on integers")
    }
  }
}

extension DataLayout {
  var name: String {
    switch self {
    case .plain: "plain"
    case .bits(let width): "\(width.bits)-bit codes"
    case .digits(let radix, _): "digits of radix \(radix)"
    case .planes: "byte planes"
    case .planeDifferences: "byte planes, differences"
    }
  }
}
