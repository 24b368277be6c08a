import QMOperations

extension Program.Metadata {
  /// Key of the entry for the functions that gave the entries of the lookup tables.
  public static let tableFunctionsKey = "table functions"

  /// Adds the entry for the functions of the tables.
  /// - Parameter tables: one list for each Table node, in the order of the nodes.
  package mutating func setTableFunctions(_ tables: [[UnaryFunction]]) {
    let text = tables.map { functions in
      functions.map { function in
        let parameters = function.parameters.map { "\($0)" }.joined(separator: ",")
        return "\(function.code)" + (parameters.isEmpty ? "" : ":" + parameters)
      }.joined(separator: " ")
    }.joined(separator: ";")
    entries.append(Entry(Self.tableFunctionsKey, text))
  }
}

extension Program {
  /// The functions that gave the entries of each Table node's table, in the order of the nodes: a table
  /// is made from a float function, and can be written back as that.
  /// - Returns: nil if the metadata does not hold one readable list for each of these nodes.
  public var tableFunctions: [[UnaryFunction]]? {
    let count = nodes.count { if case .table = $0.operation { true } else { false } }
    guard
      let text = metadata.entries.first(where: { $0.key == Metadata.tableFunctionsKey })?.value
    else { return nil }
    let lists = text.split(separator: ";", omittingEmptySubsequences: false)
    guard lists.count == count else { return nil }
    var tables: [[UnaryFunction]] = []
    for list in lists {
      var functions: [UnaryFunction] = []
      for word in list.split(separator: " ") {
        guard let function = UnaryFunction(entry: word) else { return nil }
        functions.append(function)
      }
      tables.append(functions)
    }
    return tables
  }
}

extension UnaryFunction {
  /// The function with this code and these parameters: `18`, or `1:0.0,6.0`.
  fileprivate init?(entry: Substring) {
    let parts = entry.split(separator: ":", maxSplits: 1)
    guard let code = parts.first.flatMap({ UInt8($0) }) else { return nil }
    var parameters: [Float] = []
    for word in parts.dropFirst().first?.split(separator: ",") ?? [] {
      guard let parameter = Float(word), !parameter.isNaN else { return nil }
      parameters.append(parameter)
    }
    self.init(code: code, parameters: parameters)
  }
}
