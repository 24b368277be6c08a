import QMTensor

/// The fixed order in which elements are added, multiplied or compared: 16 lanes, which a tree then
/// joins. See ``Reduction``.
enum Lanes {
  static let count = 16

  /// - Parameters:
  ///   - neutral: the value with which every lane begins.
  ///   - take: combines a lane with an element.
  ///   - join: combines two lanes.
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

  /// −∞ for no elements; NaN is skipped.
  static func maximum(_ count: Int, of element: (_ index: Int) -> Float) -> Float {
    func larger(_ lane: Float, _ x: Float) -> Float { x > lane ? x : lane }
    return reduce(count, neutral: -.infinity, take: larger, join: larger, element: element)
  }

  /// +∞ for no elements; NaN is skipped.
  static func minimum(_ count: Int, of element: (_ index: Int) -> Float) -> Float {
    func smaller(_ lane: Float, _ x: Float) -> Float { x < lane ? x : lane }
    return reduce(count, neutral: .infinity, take: smaller, join: smaller, element: element)
  }

  static func product(_ count: Int, of element: (_ index: Int) -> Float) -> Float {
    reduce(count, neutral: 1, take: *, join: *, element: element)
  }
}

extension TensorView {
  /// Stores `code` as element `index` of an int8, uint8 or int16 view; the code must fit the type.
  func setCode(_ code: Int32, at index: Int) {
    switch elementType {
    case .int8: base.storeBytes(of: Int8(code), toByteOffset: index, as: Int8.self)
    case .uint8: base.storeBytes(of: UInt8(code), toByteOffset: index, as: UInt8.self)
    case .int16: base.storeBytes(of: Int16(code), toByteOffset: 2 * index, as: Int16.self)
    default: preconditionFailure("a \(elementType) view holds no codes")
    }
  }
}
