import QMTensor

/// The fixed tree in which elements are summed, and their maximum found. See ``Reduction``.
enum Lanes {
  static let count = 16

  /// - Parameters:
  ///   - neutral: what every lane begins with.
  ///   - take: a lane after it took an element.
  ///   - join: a lane after it took another lane.
  ///   - element: element `index` of `count`.
  static func reduce(
    _ count: Int, neutral: Float, take: (Float, Float) -> Float, join: (Float, Float) -> Float,
    element: (_ index: Int) -> Float
  ) -> Float {
    var lanes = Array(repeating: neutral, count: Self.count)
    for index in 0..<count {
      lanes[index % Self.count] = take(lanes[index % Self.count], element(index))
    }
    var half = Self.count / 2
    while half > 0 {
      for lane in 0..<half { lanes[lane] = join(lanes[lane], lanes[lane + half]) }
      half /= 2
    }
    return lanes[0]
  }

  static func sum(_ count: Int, of element: (_ index: Int) -> Float) -> Float {
    reduce(count, neutral: 0, take: +, join: +, element: element)
  }

  /// −∞ of no elements; NaN is passed over.
  static func maximum(_ count: Int, of element: (_ index: Int) -> Float) -> Float {
    func larger(_ lane: Float, _ x: Float) -> Float { x > lane ? x : lane }
    return reduce(count, neutral: -.infinity, take: larger, join: larger, element: element)
  }

  /// +∞ of no elements; NaN is passed over.
  static func minimum(_ count: Int, of element: (_ index: Int) -> Float) -> Float {
    func smaller(_ lane: Float, _ x: Float) -> Float { x < lane ? x : lane }
    return reduce(count, neutral: .infinity, take: smaller, join: smaller, element: element)
  }

  static func product(_ count: Int, of element: (_ index: Int) -> Float) -> Float {
    reduce(count, neutral: 1, take: *, join: *, element: element)
  }
}

extension TensorView {
  /// Stores `code` as element `index` of an int8, uint8 or int16 view, which must be able to hold
  /// it.
  func setCode(_ code: Int32, at index: Int) {
    switch elementType {
    case .int8: base.storeBytes(of: Int8(code), toByteOffset: index, as: Int8.self)
    case .uint8: base.storeBytes(of: UInt8(code), toByteOffset: index, as: UInt8.self)
    case .int16: base.storeBytes(of: Int16(code), toByteOffset: 2 * index, as: Int16.self)
    default: preconditionFailure("a \(elementType) view holds no codes")
    }
  }
}
