import QMFormat
import QMOperations
import QMRuntime
import QMTensor

/// A program as a graph: its nodes with their shares of the bytes and of the work.
public struct GraphReport: Report {
  /// One operation.
  public struct Node: Codable, Hashable, Sendable {
    /// Its name, or empty.
    public let name: String
    /// Name of the operation: `Convolution`.
    public let operation: String
    /// What the operation computes, if it has several functions: `add`.
    public let function: String?
    /// Name of its ``ExecutionMode``: `integer`, `table`, `move` or `float`.
    public let mode: String
    /// Extents, or names of dynamic axes, of its first output: `[batch, 16, 24, 96]`. An extent that a
    /// formula gives is a question mark.
    public let shape: String
    /// The nodes whose results it reads, by their places in ``GraphReport/nodes``, in ascending order.
    public let sources: [Int]
    /// Names of the network's inputs that it reads.
    public let inputs: [String]
    /// Names of the network's outputs that it computes.
    public let outputs: [String]
    /// Bits of one weight in the file, with its share of the scales; nil without weights.
    public let storedBits: Double?
    /// Size in the file of the constants that it reads first, in bytes.
    public let bytes: Int
    /// Share of that of all constants, 0 to 1.
    public let byteShare: Double
    /// Multiply-adds of one run; nil if none were counted.
    public let multiplyAdds: Int?
    /// Share of all multiply-adds, 0 to 1; nil if none were counted.
    public let workShare: Double?

    enum CodingKeys: String, CodingKey {
      case name, operation, function, mode, shape, sources, inputs, outputs, bytes
      case storedBits = "stored_bits"
      case byteShare = "byte_share"
      case multiplyAdds = "multiply_adds"
      case workShare = "work_share"
    }
  }

  /// Path of the file.
  public let file: String
  /// The nodes in the order in which they run: all sources of a node are in front of it.
  public let nodes: [Node]

  /// The graph of an opened file.
  /// - Parameters:
  ///   - path: the path of the file, as the user gave it.
  ///   - multiplyAdds: of one run, by node; nil if no input shapes were found that run.
  public init(path: String, _ opened: QMFile, multiplyAdds: [Int: Int]?) {
    self.init(path: path, opened.listing, opened.storedByteCounts, multiplyAdds)
  }

  /// The graph of a network that is in no `.qm` file.
  /// - Parameters:
  ///   - path: the path of its file, as the user gave it.
  ///   - multiplyAdds: of one run, by node; nil if no input shapes were found that run.
  public init(path: String, _ program: Program, multiplyAdds: [Int: Int]?) {
    self.init(
      path: path, ProgramListing(of: program), program.constants.map(\.tensor.byteCount),
      multiplyAdds)
  }

  /// - Parameter stored: size in the file of each constant, in bytes.
  private init(
    path: String, _ listing: ProgramListing, _ stored: [Int], _ multiplyAdds: [Int: Int]?
  ) {
    let weights = Set(listing.weightConstants)
    let networkInputs = Set(listing.inputs)
    let scales = listing.scalesOfCodes
    let (allBytes, allWork) = (
      stored.reduce(0, +), multiplyAdds?.values.reduce(0, +) ?? 0
    )
    var outputs: [Int: [String]] = [:]
    for output in listing.outputs { outputs[output.value, default: []].append(output.name) }
    var makers: [Int: Int] = [:]
    var seen: Set<Int> = []
    file = path
    nodes = listing.nodes.enumerated().map { index, node in
      let read = node.inputs.compactMap(\.self)
      let constants = read.compactMap { listing.values[$0].constant }
        .filter { seen.insert($0).inserted }
      let own = constants.filter(weights.contains)
      let count = own.reduce(0) {
        $0 + (listing.constants[$1].shape.extents ?? []).reduce(1, *)
      }
      let weightBytes = own.reduce(0) { $0 + stored[$1] + (scales[$1].map { stored[$0] } ?? 0) }
      let bytes = constants.reduce(0) { $0 + stored[$1] }
      let work = multiplyAdds?[index]
      let sources = Set(read.compactMap { makers[$0] }).sorted()
      for output in node.outputs { makers[output] = index }
      return Node(
        name: node.name, operation: node.operation.name, function: node.operation.function,
        mode: listing.note(of: node).mode.name,
        shape: listing.values[node.outputs[0]].type.shape.withoutFormulas, sources: sources,
        inputs: read.filter(networkInputs.contains).map { listing.values[$0].name },
        outputs: node.outputs.flatMap { outputs[$0] ?? [] },
        storedBits: count > 0 ? 8 * Double(weightBytes) / Double(count) : nil, bytes: bytes,
        byteShare: allBytes > 0 ? Double(bytes) / Double(allBytes) : 0, multiplyAdds: work,
        workShare: work.map { allWork > 0 ? Double($0) / Double(allWork) : 0 })
    }
  }

  package init(file: String, nodes: [Node]) {
    self.file = file
    self.nodes = nodes
  }
}

extension GraphReport.Node {
  package init(name: String, operation: String, sources: [Int], byteShare: Double = 0) {
    self.init(
      name: name, operation: operation, function: nil, mode: "float", shape: "[1, 2]",
      sources: sources, inputs: [], outputs: [], storedBits: nil, bytes: 0, byteShare: byteShare,
      multiplyAdds: nil, workShare: nil)
  }

  /// What a drawing says of the node under its name.
  var lines: [String] {
    var lines = [
      ([operation] + [function, mode].compactMap(\.self)).joined(separator: ", "), shape,
    ]
    var facts: [String] = []
    if let storedBits { facts.append("\(Units.fixed(storedBits, 2)) bits") }
    if byteShare >= 0.0005 { facts.append("\(Units.percent(byteShare)) of bytes") }
    if !facts.isEmpty { lines.append(facts.joined(separator: ", ")) }
    if let workShare, workShare >= 0.0005 {
      lines.append("\(Units.percent(workShare)) of multiply-adds")
    }
    return lines
  }
}

extension GraphReport {
  /// The graph in the language of Graphviz.
  public var dot: String {
    func quoted(_ lines: [String]) -> String {
      let escaped = lines.map {
        $0.printable.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
      }
      return "\"" + escaped.joined(separator: "\\n") + "\""
    }
    var text = "digraph network {\n  node [shape=box, style=filled, fontname=\"sans-serif\"];\n"
    for (index, node) in nodes.enumerated() {
      let color =
        ["integer": "#cfe2fa", "table": "#e8d9f7", "float": "#fbdccb"][node.mode] ?? "#eceef1"
      text +=
        "  n\(index) [label=\(quoted([Markup.shortened(node.name)] + node.lines)), "
        + "fillcolor=\"\(color)\"];\n"
      for source in node.sources { text += "  n\(source) -> n\(index);\n" }
    }
    for (kind, ports) in [("input", \Node.inputs), ("output", \Node.outputs)] {
      var numbers: [String: Int] = [:]
      for (index, node) in nodes.enumerated() {
        for name in node[keyPath: ports] {
          if numbers[name] == nil {
            numbers[name] = numbers.count
            text +=
              "  \(kind)\(numbers.count - 1) [label=\(quoted([Markup.shortened(name)])), "
              + "shape=ellipse, style=solid];\n"
          }
          let port = "\(kind)\(numbers[name] ?? 0)"
          text += kind == "input" ? "  \(port) -> n\(index);\n" : "  n\(index) -> \(port);\n"
        }
      }
    }
    return text + "}\n"
  }
}

extension Operation {
  /// What an operation of several functions computes; nil for others.
  fileprivate var function: String? {
    let name: String
    switch self {
    case .unary(let unary): name = "\(unary.function)"
    case .binary(let binary): name = "\(binary.function)"
    case .comparison(let comparison): name = "\(comparison.function)"
    case .logic(let logic): name = "\(logic.function)"
    case .pooling(let pooling): name = "\(pooling.kind)"
    case .reduction(let reduction): name = "\(reduction.kind)"
    default: return nil
    }
    // Without the parameters.
    return String(name.prefix { $0 != "(" })
  }
}

extension Shape {
  fileprivate var withoutFormulas: String {
    let words = axes.map(\.description).map { $0.contains("(") ? "?" : $0 }
    return "[" + words.joined(separator: ", ") + "]"
  }
}
