import QMOperations
import QMTensor

// Spectra and windows of sounds. A Fourier transform is a product with a constant matrix.

extension NodeReader {
  /// Elements of a matrix or window that is made here.
  private static let mostElements = 1 << 24

  // MARK: Fourier transforms

  /// What a transform computes along one axis.
  private struct Transform {
    /// Elements along the axis that are read.
    let used: Int
    /// The period.
    let length: Int
    /// Numbers of each element that is read, and of each result: 1 for real, 2 for complex.
    let (inputParts, outputParts): (Int, Int)
    /// Number of results along the axis.
    let count: Int
    let isInverse: Bool
    /// Whether the elements that are read are the first half of a spectrum of real numbers.
    var readsHalf = false
  }

  /// The matrix of a transform, row-major [used · inputParts, count · outputParts].
  private func matrix(_ transform: Transform) throws(QMError) -> Value {
    let t = transform
    let (rows, columns) = (t.used * t.inputParts, t.count * t.outputParts)
    var elements = [Float](repeating: 0, count: rows * columns)
    for n in 0..<t.used {
      // In half a spectrum, the other half is the conjugate.
      let isDoubled = t.readsHalf && n != 0 && 2 * n != t.length
      let factor = (t.isInverse ? 1 / Double(t.length) : 1) * (isDoubled ? 2 : 1)
      for k in 0..<t.count {
        let (cosine, sine) = ExactFunctions.turn(n * k % t.length, of: t.length)
        let imaginary = t.isInverse ? sine : -sine
        // (a + bi)(cosine + imaginary i)
        let parts = [[cosine, imaginary], [-imaginary, cosine]]
        for input in 0..<t.inputParts {
          for output in 0..<t.outputParts {
            let row = n * t.inputParts + input
            elements[row * columns + k * t.outputParts + output] = Float(
              parts[input][output] * factor)
          }
        }
      }
    }
    return addConstant(try Tensor([rows, columns], elements), "matrix")
  }

  /// DFT along an axis of a value whose last axis holds real and imaginary parts.
  func discreteFourierTransform() throws(QMError) {
    let input = try float(0)
    let axes = shape(input).axes
    let isInverse = try flag("inverse", default: false)
    let isOneSided = try flag("onesided", default: false)
    let rank = axes.count
    guard rank >= 2, let parts = axes[rank - 1].extent, (1...2).contains(parts) else {
      throw .malformed("input \(shape(input)); expected 1 or 2 numbers along the last axis")
    }
    let given = try opset < 20 ? integer("axis") ?? 1 : constantInteger(2, "axis") ?? -2
    let axis = try axis(given, rank: rank)
    guard axis < rank - 1, let own = axes[axis].extent, own >= 1 else {
      throw .unsupported(
        "axis \(given) of \(shape(input)); expected a fixed extent, and not the last axis",
        remedies: .cutBefore)
    }
    let isRealResult = isInverse && isOneSided
    let length = try constantInteger(1, "length") ?? (isRealResult ? max(2 * (own - 1), 1) : own)
    guard (1...Self.mostElements).contains(length) else {
      throw .malformed("a length of \(length); expected 1 to \(Self.mostElements)")
    }
    let half = length / 2 + 1
    let used = min(own, isRealResult ? half : length)
    let transform = Transform(
      used: used, length: length, inputParts: parts, outputParts: isRealResult ? 1 : 2,
      count: isRealResult ? length : isOneSided ? half : length, isInverse: isInverse,
      readsHalf: isRealResult)
    try checkSize(transform.used * parts, transform.count * transform.outputParts)

    let others = (0..<rank - 1).filter { $0 != axis }
    let order = others + [axis, rank - 1]
    var value = try transposed(input, order)
    if used < own { value = try sliced(value, axis: rank - 2, from: 0, to: used) }
    let copies = [Int](repeating: 0, count: rank - 2)
    value = try reshaped(value, copies + [used * parts])
    value = try call("MatMul", value, matrix(transform))
    value = try reshaped(value, copies + [transform.count, transform.outputParts])
    let back = order.indices.map { place in order.firstIndex(of: place) ?? place }
    try finish([transposed(value, back)])
  }

  private func checkSize(_ rows: Int, _ columns: Int) throws(QMError) {
    let (count, overflow) = rows.multipliedReportingOverflow(by: columns)
    guard !overflow, count <= Self.mostElements else {
      throw .unsupported(
        "a transform of \(rows) × \(columns) numbers; at most \(Self.mostElements) can be read",
        remedies: .cutBefore)
    }
  }

  /// STFT: a convolution with the windowed waves of each frequency.
  func shortTimeFourierTransform() throws(QMError) {
    let input = try float(0)
    let axes = shape(input).axes
    guard axes.count == 2 || axes.count == 3, let parts = axes.count == 2 ? 1 : axes[2].extent,
      (1...2).contains(parts)
    else { throw .malformed("input \(shape(input)); expected [N, length, 1 or 2]") }
    guard let step = try constantInteger(1, "frame step"), (1...1 << 30).contains(step) else {
      throw .malformed("the frame step is missing or not positive")
    }
    var window: [Float]?
    if let value = try optionalFloat(2) {
      guard let tensor = constant(value), tensor.elementType == .float32, tensor.shape.count == 1
      else {
        throw .unsupported(
          "the window is computed, or is no vector; expected a constant", remedies: .cutBefore)
      }
      window = tensor.elements(as: Float.self)
    }
    guard let length = try constantInteger(3, "frame length") ?? window?.count,
      (1...Self.mostElements).contains(length), window.map({ $0.count == length }) ?? true
    else {
      throw .malformed("the frame length is missing, or is not that of the window")
    }
    let isOneSided = try flag("onesided", default: true)
    guard parts == 1 || !isOneSided else {
      throw .malformed("onesided = 1 for complex numbers; expected 0")
    }
    let count = isOneSided ? length / 2 + 1 : length
    try checkSize(2 * count, parts * length)
    var weights = [Float](repeating: 0, count: 2 * count * parts * length)
    for k in 0..<count {
      for n in 0..<length {
        let (cosine, sine) = ExactFunctions.turn(n * k % length, of: length)
        let factor = window?[n] ?? 1
        let rows = [[cosine, sine], [-sine, cosine]]
        for output in 0..<2 {
          for input in 0..<parts {
            let row = output * count + k
            weights[(row * parts + input) * length + n] = Float(rows[output][input]) * factor
          }
        }
      }
    }
    let channels =
      try axes.count == 2
      ? call("Unsqueeze", input, integers([1])) : transposed(input, [0, 2, 1])
    let waves = addConstant(try Tensor([2 * count, parts, length], weights), "waves")
    let spectrum = try call(
      "Conv", channels, waves, with: ["strides": .integers([Int64(step)])])
    let separate = try reshaped(spectrum, [0, 2, count, -1])
    try finish([transposed(separate, [0, 3, 2, 1])])
  }

  // MARK: Windows

  /// HannWindow, HammingWindow and BlackmanWindow: a sum of cosines.
  /// - Parameter coefficients: of the cosines of 0, 1, … periods.
  func window(_ coefficients: [Double]) throws(QMError) {
    guard let size = try constantInteger(0, "size"), (0...Self.mostElements).contains(size) else {
      throw .unsupported("a size that is missing, negative or above \(Self.mostElements)")
    }
    let period = try flag("periodic", default: true) ? size : size - 1
    var elements: [Float] = []
    for index in 0..<size {
      var sum = 0.0
      for (order, coefficient) in coefficients.enumerated() {
        let cosine = period > 0 ? ExactFunctions.turn(order * index, of: period).cosine : 1
        sum += coefficient * cosine
      }
      elements.append(Float(sum))
    }
    try finish(numbers: Tensor([size], elements), "window")
  }

  /// Defines the output as numbers in the type that the attribute `output_datatype` names.
  private func finish(numbers tensor: Tensor, _ name: String) throws(QMError) {
    let type = try ElementType(onnx: Int32(exactly: integer("output_datatype") ?? 1) ?? 0)
    let value = addConstant(tensor, name)
    guard !type.isFloatingPoint else { return try finish([Value(place: value.place, type: type)]) }
    try finish(.cast(Cast(to: type)), [value], as: type)
  }

  /// MelWeightMatrix: triangles over the frequencies of a spectrum, at equal distances in mel.
  func melWeightMatrix() throws(QMError) {
    func number(_ index: Int, _ what: String) throws(QMError) -> Double {
      let value = try raw(index)
      guard let tensor = constant(value), tensor.elementCount == 1 else {
        throw .unsupported("the \(what) (input \(index)) is computed; expected a constant")
      }
      return Double(try tensor.converted(to: .float32).elements(as: Float.self)[0])
    }
    let bandCount = try number(0, "number of bands")
    let length = try number(1, "length of the transform")
    let rate = try number(2, "sample rate")
    let (low, high) = (try number(3, "lower edge"), try number(4, "upper edge"))
    let largest = Double(1 << 20)
    guard (1...largest).contains(bandCount), (1...largest).contains(length), rate > 0,
      low >= 0, high >= low, high <= rate
    else {
      throw .malformed(
        "\(bandCount) bands from \(low) to \(high) Hz over \(length) samples at \(rate) Hz")
    }
    let (bands, bins) = (Int(bandCount), Int(length) / 2 + 1)
    try checkSize(bands, bins)
    let logarithmOfTen = ExactFunctions.logarithm(10)
    func mel(_ frequency: Double) -> Double {
      2595 * ExactFunctions.logarithm(1 + frequency / 700) / logarithmOfTen
    }
    let step = (mel(high) - mel(low)) / Double(bands + 2)
    let edges = (0..<bands + 2).map { index -> Int in
      let position = (Double(index) * step + mel(low)) / 2595 * logarithmOfTen
      let frequency = 700 * (ExactFunctions.exponential(position) - 1)
      return Int(((length + 1) * frequency / rate).rounded(.down))
    }
    var weights = [Float](repeating: 0, count: bins * bands)
    func set(_ bin: Int, _ band: Int, _ weight: Double) {
      if (0..<bins).contains(bin) { weights[bin * bands + band] = Float(weight) }
    }
    for band in 0..<bands {
      let (lower, centre, upper) = (edges[band], edges[band + 1], edges[band + 2])
      if lower == centre {
        set(centre, band, 1)
      } else {
        for bin in lower...max(lower, centre) {
          set(bin, band, Double(bin - lower) / Double(centre - lower))
        }
      }
      for bin in centre..<max(centre, upper) {
        set(bin, band, Double(upper - bin) / Double(upper - centre))
      }
    }
    try finish(numbers: Tensor([bins, bands], weights), "triangles")
  }
}
