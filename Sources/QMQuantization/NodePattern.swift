import QMGraph
import QMTensor

/// A regular expression that picks nodes by their name, or by the name of an output of theirs.
public struct NodePattern: Hashable, Sendable {
  public let text: String

  /// - Throws: `usage` if the text is no regular expression.
  public init(_ text: String) throws(QMError) {
    do { _ = try Regex(text) } catch {
      throw .usage("'\(text.abbreviated)' is not a regular expression")
    }
    self.text = text
  }

  /// The nodes that it picks, as indices.
  /// - Throws: `usage` if there is none: a misspelt name must not pass in silence.
  func nodes(of graph: Graph) throws(QMError) -> Set<Int> {
    var found: Set<Int> = []
    guard let expression = try? Regex(text) else { return found }
    for (index, node) in graph.nodes.enumerated() {
      let names = [node.name] + node.outputs.map { graph[$0].name }
      if names.contains(where: { $0.firstMatch(of: expression) != nil }) { found.insert(index) }
    }
    guard !found.isEmpty else {
      throw .usage(
        "no node is named like '\(text.abbreviated)'", remedies: .listNodes)
    }
    return found
  }
}
