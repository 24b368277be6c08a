/// A Huffman code whose words have a limited length, with the canonical words of RFC 1951, 3.2.2.
struct HuffmanCode {
  /// Length of each symbol's word in bits; 0 for symbols that do not occur.
  let lengths: [UInt8]

  /// - Parameters:
  ///   - counts: number of occurrences of each symbol.
  ///   - longest: limit of the words' length; at least ⌈log₂⌉ of the number of symbols that occur.
  init(counts: [Int], longest: Int) {
    var leaves = counts.indices.filter { counts[$0] > 0 }
    var weights = counts
    // One word needs no bits, which deflate cannot say. A second one makes the code complete.
    for symbol in counts.indices where leaves.count < 2 && weights[symbol] == 0 {
      weights[symbol] = 1
      leaves.append(symbol)
    }
    var lengths = HuffmanCode.lengths(leaves, weights)
    // Weights closer to each other give shorter words. A code of equal weights is as short as any.
    while lengths.contains(where: { Int($0) > longest }) {
      for symbol in leaves { weights[symbol] = (weights[symbol] + 1) / 2 }
      lengths = HuffmanCode.lengths(leaves, weights)
    }
    self.lengths = lengths
  }

  /// Words of unlimited length: the two lightest subtrees are joined until one is left.
  private static func lengths(_ leaves: [Int], _ weights: [Int]) -> [UInt8] {
    let leaves = leaves.sorted { (weights[$0], $0) < (weights[$1], $1) }
    let count = leaves.count
    // Subtrees: the leaves, then the joined ones in the order of their weights.
    var total = leaves.map { weights[$0] }
    var parents = [Int](repeating: 0, count: max(2 * count - 1, 0))
    var (leaf, joined) = (0, count)
    for _ in 1..<max(count, 1) {
      var weight = 0
      for _ in 0..<2 {
        let isLeaf = joined == total.count || (leaf < count && total[leaf] <= total[joined])
        let lightest = isLeaf ? leaf : joined
        if isLeaf { leaf += 1 } else { joined += 1 }
        weight += total[lightest]
        parents[lightest] = total.count
      }
      total.append(weight)
    }
    var depths = [UInt8](repeating: 0, count: total.count)
    for subtree in total.indices.dropLast().reversed() {
      depths[subtree] = depths[parents[subtree]] + 1
    }
    var lengths = [UInt8](repeating: 0, count: weights.count)
    for (place, symbol) in leaves.enumerated() { lengths[symbol] = depths[place] }
    return lengths
  }

  /// Total length of a text, in bits.
  func bitCount(of counts: [Int]) -> Int {
    zip(counts, lengths).reduce(0) { $0 + $1.0 * Int($1.1) }
  }

  /// The words, with the first bit of each in its lowest bit, as deflate packs them.
  var words: [UInt32] {
    // The next word of each length. It begins with the number of words that are one bit shorter.
    var next = [UInt32](repeating: 0, count: 17)
    for length in lengths where length > 0 { next[Int(length) + 1] += 1 }
    for length in 1..<17 { next[length] = (next[length] + next[length - 1]) << 1 }
    return lengths.map { length in
      guard length > 0 else { return 0 }
      defer { next[Int(length)] += 1 }
      return next[Int(length)].reversedBits(Int(length))
    }
  }
}

extension UInt32 {
  /// The lowest `count` bits in reverse order.
  fileprivate func reversedBits(_ count: Int) -> UInt32 {
    (0..<count).reduce(0) { $0 << 1 | self >> UInt32($1) & 1 }
  }
}
