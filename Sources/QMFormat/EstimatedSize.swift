/// An estimate of the size after deflate, in bits: that of one Huffman code for the bytes between two
/// boundaries. A run of a byte that repeats at least three times counts as one symbol, as with zlib's
/// run-length strategy; a part that would grow counts as stored. Computed in integers only, so that
/// every machine makes the same decision. Searches compare thousands of roundings by it; what
/// ``HuffmanBlocks`` makes is at most a few bytes larger.
/// - Parameter boundaries: where the distribution may change, ascending.
package func estimatedBitCount(_ bytes: [UInt8], boundaries: [Int] = []) -> Int {
  var total = 0
  var start = 0
  for end in boundaries + [bytes.count] where end > start && end <= bytes.count {
    total += min(huffmanBitCount(bytes[start..<end]), 8 * (end - start) + 40)
    start = end
  }
  return total
}

private func huffmanBitCount(_ bytes: ArraySlice<UInt8>) -> Int {
  // 256 literals, the end of the block, and one symbol per power of two of a run's length.
  var counts = [Int](repeating: 0, count: 266)
  counts[256] = 1
  var extraBits = 0
  var index = bytes.startIndex
  while index < bytes.endIndex {
    let byte = bytes[index]
    var run = 1
    while run < 259, index + run < bytes.endIndex, bytes[index + run] == byte { run += 1 }
    if run > 3 {
      counts[Int(byte)] += 1
      let power = (run - 1).bitWidth - 1 - (run - 1).leadingZeroBitCount
      counts[257 + power] += 1
      // About power − 2 extra bits for the length and one for the distance.
      extraBits += max(0, power - 2) + 1
    } else {
      counts[Int(byte)] += run
    }
    index += run
  }
  let leaves = counts.filter { $0 > 0 }.sorted()
  // Each symbol that occurs takes about four bits in the block's header.
  let headerBits = 60 + 4 * leaves.count
  return headerBits + extraBits + huffmanCost(leaves)
}

/// Total length of a text in its Huffman code, in bits: the sum of the weights of all inner nodes.
/// - Parameter leaves: the number of occurrences of each symbol, ascending.
private func huffmanCost(_ leaves: [Int]) -> Int {
  var inner: [Int] = []
  var (leaf, node, cost) = (0, 0, 0)
  func next() -> Int {
    if node == inner.count || (leaf < leaves.count && leaves[leaf] <= inner[node]) {
      leaf += 1
      return leaves[leaf - 1]
    }
    node += 1
    return inner[node - 1]
  }
  for _ in 1..<max(leaves.count, 1) {
    let weight = next() + next()
    inner.append(weight)
    cost += weight
  }
  return cost
}
