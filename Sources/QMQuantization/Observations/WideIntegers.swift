import QMTensor

/// Sums as integers of 128 bits in one allocation, which can fail. Copies share the memory.
struct WideIntegers: Hashable, @unchecked Sendable {
  let count: Int
  private let buffer: Buffer

  /// Zeros.
  /// - Throws: `outOfMemory`.
  init(count: Int) throws(QMError) {
    let (byteCount, overflow) = count.multipliedReportingOverflow(by: 16)
    guard !overflow else { throw .outOfMemory(byteCount: .max) }
    self.count = count
    buffer = try Buffer.pages(byteCount: byteCount)
  }

  /// The elements as an array of their own.
  var array: [Int128] { withExtendedLifetime(buffer) { Array(elements) } }

  /// The elements; valid while a copy of the integers lives.
  var elements: UnsafeMutableBufferPointer<Int128> {
    UnsafeMutableBufferPointer(
      start: buffer.base.assumingMemoryBound(to: Int128.self), count: count)
  }

  static func == (left: WideIntegers, right: WideIntegers) -> Bool {
    left.count == right.count && left.elements.elementsEqual(right.elements)
  }

  func hash(into hasher: inout Hasher) { for element in elements { hasher.combine(element) } }

  /// Adds the elements of integers of the same count.
  func add(_ other: WideIntegers) {
    for index in 0..<count { elements[index] &+= other.elements[index] }
  }
}
