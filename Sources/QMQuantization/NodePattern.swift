import QMGraph
import QMTensor

/// A regular expression that selects nodes by their name or the name of one of their outputs.
public struct NodePattern: Hashable, Sendable {
  /// The regular expression, in the syntax of Swift's `Regex`. It may match a part of a name.
  public let text: String

  /// - Throws: `usage` if the text is not a regular expression.
  public init(_ text: String) throws(QMError) {
    do { _ = try Regex(text) } catch {
      throw .usage("'\(text.abbreviated)' is not a regular expression")
    }
    self.text = text
  }

  /// The names that match.
  func matching(_ names: [String]) -> [String] {
    guard let expression = try? Regex(text) else { return [] }
    return names.filter { $0.firstMatch(of: expression) != nil }
  }

  /// The indices of the nodes that match.
  /// - Throws: `usage` if no node matches, because a misspelt name must be reported.
  package func nodes(of graph: Graph) throws(QMError) -> Set<Int> {
    var found: Set<Int> = []
    for (index, node) in graph.nodes.enumerated() {
      let names = [node.name] + node.outputs.map { graph[$0].name }
      if !matching(names).isEmpty { found.insert(index) }
    }
    guard !found.isEmpty else {
      throw .usage(
        "no node matches the pattern '\(text.abbreviated)'", remedies: .listNodes)
    }
    return found
  }
}
