/// Places for the nodes of an acyclic graph: layers from top to bottom, each below all its sources, and
/// within a layer an order with few crossings.
///
/// Source: Sugiyama, Tagawa and Toda 1981, "Methods for Visual Understanding of Hierarchical System
/// Structures": layers by the longest path, dummy nodes on edges over several layers, orders by
/// barycentres.
package struct GraphLayout {
  /// The layer of each node, from 0.
  package let layers: [Int]
  /// The place of each node in its layer, in units of a node's width, from 0.
  package let columns: [Double]
  /// Number of layers.
  package let layerCount: Int
  /// Where the last column ends, in the same unit.
  package let width: Double
  /// For each edge the columns that it passes, one for each layer between its ends.
  package let edges: [Edge]

  /// From a source to a node.
  package struct Edge: Sendable {
    package let source: Int
    package let target: Int
    package fileprivate(set) var columns: [Double]
  }

  /// Longer edges are straight where all edges together would pass more layers than this.
  private static let mostDummies = 40_000
  /// Room of an edge between nodes, in units of a node's width.
  private static let edgeWidth = 0.12
  private static let sweeps = 6

  /// - Parameter sources: for each node the nodes that it reads, all with smaller numbers.
  package init(_ sources: [[Int]]) {
    let layers = GraphLayout.layers(of: sources)
    let layerCount = (layers.max() ?? -1) + 1
    self.layers = layers
    self.layerCount = layerCount

    // Nodes first, then dummies; each knows its neighbours in the layers above and below.
    var above = [[Int]](repeating: [], count: sources.count)
    var below = above
    var layerOf = layers
    var chains: [[Int]] = []
    var edges: [Edge] = []
    let dummies = sources.enumerated().reduce(0) { sum, node in
      sum + node.element.reduce(0) { $0 + max(layers[node.offset] - layers[$1] - 1, 0) }
    }
    for (target, sources) in sources.enumerated() {
      for source in sources {
        edges.append(Edge(source: source, target: target, columns: []))
        var chain: [Int] = []
        var last = source
        for layer in dummies > GraphLayout.mostDummies ? 0..<0 : layers[source] + 1..<layers[target]
        {
          let dummy = layerOf.count
          layerOf.append(layer)
          above.append([last])
          below.append([])
          below[last].append(dummy)
          chain.append(dummy)
          last = dummy
        }
        above[target].append(last)
        below[last].append(target)
        chains.append(chain)
      }
    }

    var rows = [[Int]](repeating: [], count: layerCount)
    for (node, layer) in layerOf.enumerated() { rows[layer].append(node) }
    var places = [Double](repeating: 0, count: layerOf.count)
    func width(_ node: Int) -> Double { node < sources.count ? 1 : GraphLayout.edgeWidth }
    // As far to the left as the order of the row allows, but not left of what the node wants.
    func arrange(_ row: [Int], around wanted: (Int) -> Double?) {
      var wishes: [Int: Double] = [:]
      for node in row { wishes[node] = wanted(node) ?? places[node] }
      let ordered = row.sorted { (wishes[$0] ?? 0, $0) < (wishes[$1] ?? 0, $1) }
      rows[layerOf[row[0]]] = ordered
      var end = -Double.infinity
      var shift = 0.0
      for node in ordered {
        let center = max(wishes[node] ?? 0, end + width(node) / 2)
        shift += center - (wishes[node] ?? 0)
        places[node] = center
        end = center + width(node) / 2
      }
      // What pushed others to the right is pushed back by half.
      let back = shift / Double(ordered.count)
      for node in ordered { places[node] -= back }
    }
    func mean(_ nodes: [Int]) -> Double? {
      nodes.isEmpty ? nil : nodes.reduce(0) { $0 + places[$1] } / Double(nodes.count)
    }
    for row in rows {
      for (index, node) in row.enumerated() { places[node] = Double(index) }
    }
    for sweep in 0..<GraphLayout.sweeps {
      let isDown = sweep % 2 == 0
      for layer in isDown ? Array(rows.indices) : rows.indices.reversed() {
        arrange(rows[layer]) { mean(isDown ? above[$0] : below[$0]) }
      }
    }
    let least = places.indices.map { places[$0] - width($0) / 2 }.min() ?? 0
    columns = (0..<sources.count).map { places[$0] - least - 0.5 }
    self.width = (places.indices.map { places[$0] + width($0) / 2 }.max() ?? 0) - least
    for index in edges.indices {
      edges[index].columns = chains[index].map { places[$0] - least }
    }
    self.edges = edges
  }

  /// One more than the last of a node's sources.
  private static func layers(of sources: [[Int]]) -> [Int] {
    var layers = [Int](repeating: 0, count: sources.count)
    for (node, sources) in sources.enumerated() {
      layers[node] = (sources.map { layers[$0] + 1 }).max() ?? 0
    }
    return layers
  }
}
