import QMOperations
import QMTensor

// How the structure section encodes the types of values and the layouts of data sections.

extension ByteWriter {
  mutating func type(_ type: ValueType, _ axisNumbers: [String: Int]) {
    code(type.elementType)
    switch type.quantization {
    case .none: byte(0)
    case .fixed where type.quantization == lastParameters: byte(4)
    case .fixed(let scale, let zeroPoint):
      lastParameters = type.quantization
      byte(1)
      float(scale)
      signed(Int(zeroPoint))
    case .dynamic(let axes):
      byte(2)
      varint(axes)
    case .weights(let bits, let granularity):
      byte(3)
      byte(UInt8(bits.bits))
      switch granularity {
      case .perTensor: byte(0)
      case .perChannel(let axis):
        byte(1)
        varint(axis)
      case .perGroup(let axis, let size):
        byte(2)
        varint(axis)
        varint(size)
      }
    }
    varint(type.shape.rank)
    for axis in type.shape.axes {
      switch axis {
      case .fixed(let extent): varint(2 * extent)
      case .free(let name): varint(2 * (axisNumbers[name] ?? 0) + 1)
      }
    }
  }

  mutating func layout(_ layout: DataLayout) {
    byte(layout.number)
    switch layout {
    case .plain, .planes, .planeDifferences, .signPlanes: break
    case .bits(let width): byte(UInt8(width.bits))
    case .digits(let radix, let minimum):
      byte(UInt8(radix))
      signed(minimum)
    case .tuples(let table):
      byte(UInt8(table.size))
      varint(table.count)
      varint(table.escapeCount)
    }
  }
}

extension ByteReader {
  mutating func type(_ axisNames: [String], _ limits: DecodingLimits) throws(QMError)
    -> ValueType
  {
    let elementType = try code("element type", as: ElementType.self)
    let quantization = try quantization()
    var axes: [Shape.Axis] = []
    for _ in 0..<(try count(of: "axes", limit: limits.rank)) {
      let number = try varint()
      if number & 1 == 0 {
        axes.append(.fixed(number >> 1))
      } else {
        guard number >> 1 < axisNames.count else {
          throw malformed(
            "a dynamic axis has name \(number >> 1) of \(axisNames.count - 1)")
        }
        axes.append(.free(axisNames[number >> 1]))
      }
    }
    return ValueType(elementType, Shape(axes), quantization)
  }

  private mutating func quantization() throws(QMError) -> Quantization {
    switch try byte() {
    case 0: return .none
    case 1:
      let quantization = Quantization.fixed(scale: try float(), zeroPoint: try zeroPoint())
      lastParameters = quantization
      return quantization
    case 2: return .dynamic(axes: try varint())
    case 3: return .weights(bits: try width(), granularity: try granularity())
    case 4:
      guard let lastParameters else {
        throw malformed("a type repeats scale and zero point, but none stand before it")
      }
      return lastParameters
    case let kind: throw malformed("quantization \(kind) is unknown")
    }
  }

  private mutating func width() throws(QMError) -> BitWidth {
    let bits = try byte()
    guard let width = BitWidth(Int(bits)) else {
      throw malformed("codes of \(bits) bits, expected 2 to 8")
    }
    return width
  }

  private mutating func granularity() throws(QMError) -> Granularity {
    switch try byte() {
    case 0: return .perTensor
    case 1: return .perChannel(axis: try varint())
    case 2: return .perGroup(axis: try varint(), size: try varint())
    case let kind: throw malformed("granularity \(kind) is unknown")
    }
  }

  mutating func layout() throws(QMError) -> DataLayout {
    switch try byte() {
    case 0: return .plain
    case 1: return .bits(try width())
    case 2:
      let radix = Int(try byte())
      let minimum = try signed()
      guard DataLayout.radixes.contains(radix), minimum >= -128, minimum + radix - 1 <= 127 else {
        throw malformed(
          "digits of radix \(radix) from \(minimum) on: expected radix 2 to 16 and int8 codes")
      }
      return .digits(radix: radix, minimum: minimum)
    case 3: return .planes
    case 4: return .planeDifferences
    case 5: return .signPlanes
    case 6:
      let (size, count, escapeCount) = (Int(try byte()), try varint(), try varint())
      guard let table = TupleTable(size: size, count: count, escapeCount: escapeCount) else {
        throw malformed(
          "\(count) tuples of \(size) codes and \(escapeCount) others: expected up to 256 of 2 to 8 "
            + "codes, 255 with others")
      }
      return .tuples(table)
    case let number: throw malformed("layout \(number) is unknown")
    }
  }
}
