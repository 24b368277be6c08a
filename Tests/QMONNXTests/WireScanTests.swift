import QMONNX
import QMTensor
import QMTestSupport
import Testing

@Suite struct WireScanTests {
  private func read(_ bytes: [UInt8], limits: ONNXLimits = ONNXLimits()) throws {
    _ = try ONNXReader.read(bytes: Buffer.copying(bytes), limits: limits)
  }

  @Test func refusesEveryTruncation() throws {
    let bytes = try Fixtures.bytes(of: "conv_depthwise")
    try read(bytes)
    // The operator sets stand last; without them nothing can be read either.
    for count in 0..<bytes.count {
      #expect(throws: QMError.self, "cut at \(count)") { try read(Array(bytes[..<count])) }
    }
  }

  @Test func survivesEveryChangedByte() throws {
    let bytes = try Fixtures.bytes(of: "free_axes_and_shape_arithmetic")
    for index in bytes.indices {
      for value in [0x00, 0x7f, 0x80, 0xff] as [UInt8] {
        var changed = bytes
        changed[index] = value
        // Read or refused; what counts is that it comes back.
        try? read(changed)
      }
    }
  }

  @Test func survivesRandomChanges() throws {
    var generator = SeededGenerator(seed: 1)
    for name in ["split_uneven", "dequantized_weights_per_channel", "constant_nodes"] {
      let bytes = try Fixtures.bytes(of: name)
      for _ in 0..<300 {
        var changed = bytes
        for _ in 0..<3 {
          changed[Int.random(in: bytes.indices, using: &generator)] = .random(
            in: 0...255, using: &generator)
        }
        try? read(changed)
      }
    }
  }

  @Test func ignoresUnknownFields() throws {
    // Field 90 as varint, 64 bits, bytes and 32 bits.
    let unknown: [UInt8] =
      [0xd0, 0x05, 0x07] + [0xd1, 0x05, 1, 2, 3, 4, 5, 6, 7, 8] + [0xd2, 0x05, 2, 0xff, 0xff]
      + [0xd5, 0x05, 1, 2, 3, 4]
    try read(unknown + Fixtures.bytes(of: "gemm") + unknown)
  }

  @Test func ignoresItsOwnFieldInAFile() throws {
    // Field 1000 of ModelProto, and of a tensor with nothing but it.
    try read([0xc2, 0x3e, 1, 0] + Fixtures.bytes(of: "gemm"))
    let tensor: [UInt8] = [0xc2, 0x3e, 8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]
    let graph = [0x2a, UInt8(tensor.count)] + tensor
    #expect(throws: QMError.malformed("")) {
      try read([0x08, 8, 0x3a, UInt8(graph.count)] + graph + [0x42, 2, 0x10, 17])
    }
  }

  @Test func saysWhere() throws {
    let bytes = try Fixtures.bytes(of: "gemm")
    do {
      try read(bytes + [0x0b])
      Issue.record("it was read")
    } catch let error as QMError {
      #expect(error.context.contains(.offset(bytes.count)), "\(error)")
    }
  }

  /// Nodes in attributes in nodes …, each level one graph.
  private func nested(_ depth: Int) -> [UInt8] {
    func field(_ number: UInt8, _ content: [UInt8]) -> [UInt8] {
      var length = content.count
      var bytes = [number << 3 | 2]
      repeat {
        bytes.append(UInt8(length & 0x7f) | (length >= 0x80 ? 0x80 : 0))
        length >>= 7
      } while length > 0
      return bytes + content
    }
    var graph: [UInt8] = []
    for _ in 0..<depth { graph = field(1, field(5, field(6, graph))) }
    return [0x08, 8] + field(7, graph) + [0x42, 2, 0x10, 17]
  }

  /// No deeper than one level above the limit, which other software survives too.
  @Test func refusesDeepNesting() throws {
    // The model, its graph, and three messages per level.
    let deepest = (ONNXLimits().depth - 2) / 3
    for (depth, isTooDeep) in [(deepest, false), (deepest + 1, true)] {
      let error = #expect(throws: QMError.self) { try read(nested(depth)) }
      #expect(error?.message.contains("nest more than") == isTooDeep)
    }
  }

  @Test func refusesMoreThanItsLimits() throws {
    let bytes = try Fixtures.bytes(of: "conv_depthwise")
    var limits = ONNXLimits()
    limits.messages = 5
    #expect(throws: QMError.unsupported("")) { try read(bytes, limits: limits) }
    limits = ONNXLimits()
    limits.skeletonBytes = 100
    #expect(throws: QMError.unsupported("")) { try read(bytes, limits: limits) }
    limits = ONNXLimits()
    limits.messageBytes = 1000
    #expect(throws: QMError.unsupported("")) { try read(bytes, limits: limits) }
    limits = ONNXLimits()
    limits.valueBytes = 100
    #expect(throws: QMError.unsupported("")) { try read(bytes, limits: limits) }
  }
}
