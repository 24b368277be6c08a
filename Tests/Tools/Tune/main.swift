import QMOperations
import QMTensor
import QMTestSupport

// Measures convolutions by Winograd's algorithm and in the direct form with every kernel set of this
// machine, and prints the costs that fit the times best, as WinogradCosts.swift has them.

/// A convolution of codes with a 3 × 3 window, channels last.
struct Layer {
  let channels: Int
  let outputs: Int
  let size: Int

  var tiles: Double { Double((size + 3) / 4 * ((size + 3) / 4)) }
  var multiplications: Double { 9 * Double(size * size * channels * outputs) }
}

/// The least time of one run, in nanoseconds.
func time(_ layer: Layer, bits: BitWidth, _ kernels: KernelSet, transforms: Bool) throws -> Double {
  var generator = SeededGenerator(seed: 1)
  let input = try generator.tensor(
    [1, layer.size, layer.size, layer.channels], in: Int8.min...Int8.max)
  let codes = bits.symmetricCodes
  let weights = try generator.tensor(
    [layer.outputs, 3, 3, layer.channels], in: Int8(codes.lowerBound)...Int8(codes.upperBound))
  let scales = try Tensor([1], [0.5] as [Float])
  let operands: [Operand?] = [
    Operand(
      ValueType(.int8, Shape(input.shape), .fixed(scale: 0.1, zeroPoint: 3)), constant: nil),
    Operand(
      ValueType(
        .int8, Shape(weights.shape), .weights(bits: bits, granularity: .perTensor)),
      constant: weights),
    nil, Operand(ValueType(.float32, Shape([1])), constant: scales),
  ]
  let convolution = Convolution(
    order: .channelsLast, strides: [1, 1], dilations: [1, 1], padding: .sameUpper, groups: 1)
  let types = try convolution.outputTypes(for: operands)
  let output = try Tensor(zeros: .float32, types[0].shape.extents!)
  let packing = Packing(memory: .standard, mayTransform: transforms)
  let node = try PreparedNode(
    .convolution(convolution), operands: operands, outputs: types,
    packed: convolution.pack(operands, for: kernels, packing), kernels: kernels)
  guard node.kernel.name.contains("Winograd") == transforms else { return .nan }
  let threads = ThreadPool(threadCount: 1)
  let scratch = try Buffer.allocate(byteCount: node.kernel.scratchByteCount(1))
  let inputs = [input, weights, nil, scales].map { $0.map { $0.buffer.base + $0.byteOffset } }
  let outputs = [Optional(output.buffer.base + output.byteOffset)]
  return try withExtendedLifetime((input, weights, scales, output)) {
    try inputs.withUnsafeBufferPointer { inputs in
      try outputs.withUnsafeBufferPointer { outputs in
        let memory = Kernel.Memory(
          inputs: inputs, outputs: outputs, scratch: scratch.base, threads: threads)
        var least = Double.infinity
        for _ in 0..<30 {
          let duration = try ContinuousClock().measure { try node.kernel.run(memory) }
          least = min(least, duration / .nanoseconds(1))
        }
        return least
      }
    }
  }
}

func whole(_ count: Int, _ step: Int) -> Double { Double((count + step - 1) / step * step) }

let layers = [
  (16, 56), (24, 28), (32, 56), (32, 28), (48, 28), (64, 56), (64, 28), (96, 28), (128, 28),
]
.map { Layer(channels: $0.0, outputs: $0.0, size: $0.1) }

for kernels in KernelSet.available where kernels != .reference {
  let vector = kernels.rawValue.hasPrefix("avx512") ? 32 : kernels == .portable ? 8 : 16
  var unit = 0.0
  var fewBits = 0.0
  // Sums of the normal equations of the fit.
  var (aa, ab, bb, ay, by) = (0.0, 0.0, 0.0, 0.0, 0.0)
  print("\(kernels):")
  for layer in layers {
    let direct = try time(layer, bits: .eight, kernels, transforms: false)
    let narrow = try time(layer, bits: BitWidth(4)!, kernels, transforms: false)
    let winograd = try time(layer, bits: .eight, kernels, transforms: true)
    guard winograd.isFinite else { continue }
    let own = direct / layer.multiplications
    if layer.channels >= 64 { unit = unit == 0 ? own : min(unit, own) }
    fewBits = narrow / direct
    print(
      "  \(layer.channels) channels at \(layer.size): direct \(Int(direct)) ns, "
        + "4 bits \(Int(narrow)), Winograd \(Int(winograd))")
    let (input, output) = (whole(layer.channels, vector), whole(layer.outputs, vector))
    // Relative errors count.
    let weight = 1 / winograd
    let (a, b) = (
      layer.tiles * input * output * weight, layer.tiles * (input + output) * weight
    )
    (aa, ab, bb) = (aa + a * a, ab + a * b, bb + b * b)
    (ay, by) = (ay + a, by + b)
  }
  guard unit > 0 else { continue }
  let determinant = aa * bb - ab * ab
  let tile = (ay * bb - by * ab) / determinant / unit
  let transform = (by * aa - ay * ab) / determinant / unit
  func rounded(_ number: Double, _ step: Double) -> Double { (number / step).rounded() * step }
  print(
    "  tile: \(rounded(tile, 1)), transform: \(rounded(transform, 10)), "
      + "fewBits: \(rounded(fewBits, 0.05))")
}
