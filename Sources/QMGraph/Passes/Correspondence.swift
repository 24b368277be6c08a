/// Maps the values of a graph to the values of a rewritten graph that computes the same, for
/// example of the exact graph to the graph after the fusions.
///
/// A value that no node computes any more has no counterpart: it is inside a fused product.
public struct Correspondence: Sendable {
  /// The value of the new graph that holds an old one's elements.
  struct Counterpart: Sendable {
    var value: Graph.ValueID
    /// Axis `i` of the new value is axis `permutation[i]` of the old one; nil where the axes are
    /// the same.
    var permutation: [Int]?
  }

  /// The scales and shifts that were folded into a product. The old product computes
  /// `y = Σ w · u + b` of `u = inputScale · x + inputShift`; the new one reads `x` and computes
  /// `outputScale · y + outputShift`, for each output channel.
  struct Folding: Sendable {
    var inputScale = 1.0
    var inputShift = 0.0
    /// One number for all channels, or one for each.
    var outputScale = [1.0]
    var outputShift = [0.0]

    /// This folding followed by `next`.
    func then(_ next: Folding) -> Folding {
      // y' = s₂ · (s₁ · y(a₁ · u + o₁) + t₁) + t₂ with u = a₂ · x + o₂.
      func each(_ first: [Double], _ second: [Double], _ body: (Double, Double) -> Double)
        -> [Double]
      {
        // The other side may have no channels.
        (0..<(first.count == 1 ? second.count : first.count)).map {
          body(first[first.count == 1 ? 0 : $0], second[second.count == 1 ? 0 : $0])
        }
      }
      return Folding(
        inputScale: inputScale * next.inputScale,
        inputShift: inputScale * next.inputShift + inputShift,
        outputScale: each(outputScale, next.outputScale, *),
        outputShift: each(each(outputShift, next.outputScale, *), next.outputShift, +))
    }
  }

  /// By old value.
  private var counterparts: [Graph.ValueID: Counterpart] = [:]
  /// By the output of the old product: the output of the new product, and what was folded into it.
  private var products: [Graph.ValueID: (output: Graph.ValueID, folding: Folding)] = [:]

  init() {}

  /// The identity: maps each value of a graph to itself.
  init(of graph: Graph) {
    for index in graph.values.indices {
      counterparts[Graph.ValueID(index)] = Counterpart(value: Graph.ValueID(index))
    }
  }

  /// The new value with the elements of an old one, possibly with permuted axes; nil if no node
  /// computes it any more.
  public func value(for old: Graph.ValueID) -> Graph.ValueID? { counterparts[old]?.value }

  /// The order of axes of the new value for an old one: axis `i` of the new value is axis
  /// `permutation[i]` of the old one. nil if the axes are the same.
  public func permutation(for old: Graph.ValueID) -> [Int]? { counterparts[old]?.permutation }

  /// The output of the new product for an old one, and what was folded into it.
  /// - Parameter output: the output of the old product.
  func product(_ output: Graph.ValueID) -> (output: Graph.ValueID, folding: Folding)? {
    if let known = products[output] { return known }
    return counterparts[output].map { ($0.value, Folding()) }
  }

  /// Records the counterpart of a value; an earlier record wins.
  mutating func record(_ old: Graph.ValueID, as new: Counterpart) {
    if counterparts[old] == nil { counterparts[old] = new }
  }

  mutating func record(_ folding: Folding, of old: Graph.ValueID, as new: Graph.ValueID) {
    products[old] = (new, folding)
  }

  /// This correspondence followed by `next`.
  func then(_ next: Correspondence) -> Correspondence {
    var result = Correspondence()
    for (old, counterpart) in counterparts {
      guard let last = next.counterparts[counterpart.value] else { continue }
      var permutation = last.permutation
      if let first = counterpart.permutation {
        permutation = permutation?.map { first[$0] } ?? first
      }
      result.counterparts[old] = Counterpart(value: last.value, permutation: permutation)
    }
    for old in Set(products.keys).union(counterparts.keys) {
      guard let middle = product(old), let last = next.product(middle.output),
        products[old] != nil || next.products[middle.output] != nil
      else { continue }
      result.products[old] = (last.output, middle.folding.then(last.folding))
    }
    return result
  }
}
