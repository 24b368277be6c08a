import CQM
import Foundation
import QMLibrary
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

/// The functions of qm.h, called as C calls them.
@Suite struct LibraryTests {
  /// `y = x · w + b`, x `[n, 3]`.
  private static let product = Fixtures.path("qm/accept/product.qm")

  private static func lastError() -> String { String(cString: qm_last_error()) }

  private static func withModel(
    _ path: String = product, options: qm_options? = nil, _ body: (OpaquePointer) throws -> Void
  ) throws {
    var model: OpaquePointer?
    var options = options ?? qm_options()
    options.struct_size = MemoryLayout<qm_options>.size
    #expect(qm_model_open(path, &options, &model) == QM_OK, "\(lastError())")
    defer { qm_model_close(model) }
    try body(try #require(model))
  }

  private static func withSession(_ body: (OpaquePointer, Model) throws -> Void) throws {
    try withModel { model in
      var session: OpaquePointer?
      #expect(qm_session_create(model, &session) == QM_OK)
      defer { qm_session_close(session) }
      try body(try #require(session), Model(contentsOf: product))
    }
  }

  /// Inputs of the extents given, of which dynamic ones are 2, of any bytes.
  private static func inputs(_ model: Model) throws -> [Tensor] {
    try model.inputs.map { port in
      let shape = port.type.shape.axes.map { $0.extent ?? 2 }
      let count = try Tensor.byteCount(of: port.type.elementType, shape)
      let bytes = (0..<count).map { UInt8($0 * 7 % 61) }
      return try Tensor(port.type.elementType, shape, buffer: Buffer.copying(bytes))
    }
  }

  /// Calls `body` with the tensors as C passes them.
  private static func withInputs(_ tensors: [Tensor], _ body: ([qm_input]) throws -> Void) rethrows
  {
    let shapes = tensors.map { tensor in
      let copy = UnsafeMutablePointer<Int64>.allocate(capacity: max(1, tensor.shape.count))
      copy.initialize(from: tensor.shape.map(Int64.init), count: tensor.shape.count)
      return copy
    }
    defer { for shape in shapes { shape.deallocate() } }
    try body(
      zip(tensors, shapes).map { tensor, shape in
        qm_input(
          data: tensor.bytes.baseAddress, byte_count: tensor.byteCount, shape: shape,
          rank: tensor.shape.count)
      })
    withExtendedLifetime(tensors) {}
  }

  private static func output(_ session: OpaquePointer, _ index: Int) -> qm_output {
    var output = qm_output()
    output.struct_size = MemoryLayout<qm_output>.size
    #expect(qm_session_output(session, index, &output) == QM_OK, "\(lastError())")
    return output
  }

  @Test func bothWaysToRunGiveTheBitsOfTheRuntime() throws {
    try Self.withSession { session, model in
      let tensors = try Self.inputs(model)
      let named = Dictionary(uniqueKeysWithValues: zip(model.inputs.map(\.name), tensors))
      let expected = try model.run(named)
      func check() {
        for (index, port) in model.outputs.enumerated() {
          let output = Self.output(session, index)
          let tensor = expected[port.name]!
          #expect(output.element_type == Int32(port.type.elementType.rawValue))
          #expect((0..<Int(output.rank)).map { Int(output.shape[$0]) } == tensor.shape)
          #expect(
            UnsafeRawBufferPointer(start: output.data, count: output.byte_count)
              .elementsEqual(tensor.bytes))
          var copy = [UInt8](repeating: 0, count: output.byte_count)
          #expect(qm_session_copy_output(session, index, &copy, copy.count) == QM_OK)
          #expect(tensor.bytes.elementsEqual(copy))
          #expect(
            qm_session_copy_output(session, index, &copy, copy.count - 1) == QM_ERROR_USAGE)
        }
      }
      try Self.withInputs(tensors) { inputs in
        #expect(qm_session_run(session, inputs, inputs.count) == QM_OK, "\(Self.lastError())")
        check()
        let shapes = inputs.map { qm_shape(extents: $0.shape, rank: $0.rank) }
        var needed: UInt64 = 0
        #expect(qm_session_memory_needed(session, shapes, shapes.count, &needed) == QM_OK)
        let twin = Session(model)
        try twin.prepare(tensors.map(\.shape))
        #expect(Int(needed) == twin.arenaByteCount)
        #expect(qm_session_prepare(session, shapes, shapes.count) == QM_OK)
        for (index, tensor) in tensors.enumerated() {
          var data: UnsafeMutableRawPointer?
          var count = 0
          #expect(qm_session_input(session, index, &data, &count) == QM_OK)
          #expect(count == tensor.byteCount)
          data?.copyMemory(from: tensor.bytes.baseAddress!, byteCount: count)
        }
        #expect(qm_session_run_in_place(session) == QM_OK)
        check()
      }
    }
  }

  @Test func portsAndMetadataAreThoseOfTheFile() throws {
    let path = Fixtures.path("qm/accept/names_and_metadata.qm")
    let expected = try Model(contentsOf: path)
    try Self.withModel(path) { model in
      #expect(qm_model_input_count(model) == expected.inputs.count)
      #expect(qm_model_output_count(model) == expected.outputs.count)
      for (index, input) in expected.inputs.enumerated() {
        var port = qm_port()
        port.struct_size = MemoryLayout<qm_port>.size
        #expect(qm_model_input(model, index, &port) == QM_OK)
        #expect(String(cString: port.name) == input.name)
        #expect(Int(port.rank) == input.type.shape.rank)
        for (axis, declared) in input.type.shape.axes.enumerated() {
          #expect(port.shape[axis] == Int64(declared.extent ?? -1))
          if case .free(let name) = declared {
            #expect(String(cString: port.axis_names[axis]!) == name)
          }
        }
      }
      let producer = qm_model_metadata(model, "producer")
      #expect(producer.map { String(cString: $0) } == expected.signature.metadata.producer)
      let keys = (0..<qm_model_metadata_count(model)).map {
        String(cString: qm_model_metadata_key(model, $0))
      }
      #expect(keys.contains("producer"))
      #expect(qm_model_metadata(model, "no such key") == nil)
      #expect(qm_model_metadata_key(model, keys.count) == nil)
    }
  }

  @Test func anEarlierAndShorterStructureIsFilledAsFarAsItReaches() throws {
    try Self.withModel { model in
      var port = qm_port()
      port.struct_size = MemoryLayout<qm_port>.offset(of: \qm_port.scale)!
      port.zero_point = 77
      #expect(qm_model_input(model, 0, &port) == QM_OK)
      #expect(port.name != nil && port.zero_point == 77)
      #expect(port.struct_size == MemoryLayout<qm_port>.offset(of: \qm_port.scale)!)
      port.struct_size = 0
      #expect(qm_model_input(model, 0, &port) == QM_ERROR_USAGE)
    }
  }

  @Test func aSelfTestIsThatOfTheRuntime() throws {
    let path = Fixtures.path("qm/accept/probes.qm")
    let bytes = try [UInt8](Data(contentsOf: URL(filePath: path)))
    try Self.withModel(path) { model in
      var (found, again) = (qm_self_test(), qm_self_test())
      found.struct_size = MemoryLayout<qm_self_test>.size
      again.struct_size = MemoryLayout<qm_self_test>.size
      #expect(qm_model_self_test(model, &found) == QM_OK, "\(Self.lastError())")
      #expect(found.probe_count == 3 && found.agreeing_count == 3 && found.made_inputs == 1)
      #expect(found.median_sqnr == .infinity && found.worst_sqnr == .infinity)
      #expect(qm_model_self_test_bytes(model, bytes, bytes.count, &again) == QM_OK)
      #expect(again.agreeing_count == 3)
      #expect(qm_model_self_test_bytes(model, bytes, -1, &again) == QM_ERROR_USAGE)
      #expect(qm_model_self_test_bytes(model, nil, 1, &again) == QM_ERROR_USAGE)
      #expect(
        qm_model_self_test_bytes(model, bytes, bytes.count - 1, &again) == QM_ERROR_MALFORMED)
      #expect(qm_model_self_test(model, nil) == QM_ERROR_USAGE)
      #expect(qm_model_self_test(nil, &again) == QM_ERROR_USAGE)
    }
    try Self.withModel { model in
      var found = qm_self_test()
      found.struct_size = MemoryLayout<qm_self_test>.size
      #expect(qm_model_self_test(model, &found) == QM_ERROR_USAGE)
      #expect(String(cString: qm_last_error_remedy()).contains("probes"))
      #expect(qm_model_self_test_bytes(model, bytes, bytes.count, &found) == QM_ERROR_INVALID_INPUT)
    }
  }

  @Test func wrongArgumentsAreErrors() throws {
    var model: OpaquePointer?
    #expect(qm_model_open(nil, nil, &model) == QM_ERROR_USAGE)
    #expect(qm_model_open(Self.product, nil, nil) == QM_ERROR_USAGE)
    #expect(qm_model_open("/nowhere/at/all.qm", nil, &model) == QM_ERROR_CANNOT_OPEN)
    #expect(model == nil && Self.lastError().contains("/nowhere/at/all.qm"))
    #expect(qm_last_error_status() == QM_ERROR_CANNOT_OPEN)
    var bytes = try [UInt8](Data(contentsOf: URL(filePath: Self.product)))
    var needed: UInt64 = 0
    #expect(qm_memory_needed_bytes(bytes, bytes.count, nil, &needed) == QM_OK)
    #expect(qm_model_open_bytes(bytes, bytes.count, nil, &model) == QM_OK)
    var taken: UInt64 = 0
    #expect(qm_model_weight_bytes(model, &taken) == QM_OK && taken <= needed)
    for place in bytes.indices {
      bytes[place] ^= 0x55
      var damaged: OpaquePointer?
      #expect(qm_model_open_bytes(bytes, bytes.count, nil, &damaged) != QM_OK)
      #expect(damaged == nil)
      bytes[place] ^= 0x55
    }
    for options in [
      qm_options(
        struct_size: 0, threads: 0, memory: 0, kernels: nil, run_byte_limit: 0),
      qm_options(
        struct_size: MemoryLayout<qm_options>.size, threads: -1, memory: 0, kernels: nil,
        run_byte_limit: 0),
      qm_options(
        struct_size: MemoryLayout<qm_options>.size, threads: 0, memory: 2, kernels: nil,
        run_byte_limit: 0),
    ] {
      var options = options
      var refused: OpaquePointer?
      #expect(qm_model_open(Self.product, &options, &refused) == QM_ERROR_USAGE)
    }

    var session: OpaquePointer?
    #expect(qm_session_create(nil, &session) == QM_ERROR_USAGE)
    #expect(qm_session_create(model, &session) == QM_OK)
    var output = qm_output()
    output.struct_size = MemoryLayout<qm_output>.size
    #expect(qm_session_output(session, 0, &output) == QM_ERROR_USAGE)
    #expect(qm_session_run_in_place(session) == QM_ERROR_USAGE)
    try Self.withInputs(Self.inputs(Model(contentsOf: Self.product))) { inputs in
      #expect(qm_session_run(session, nil, inputs.count) == QM_ERROR_USAGE)
      #expect(qm_session_run(session, inputs, inputs.count + 1) == QM_ERROR_INVALID_INPUT)
      var wrong = inputs
      wrong[0].byte_count += 1
      #expect(qm_session_run(session, wrong, wrong.count) == QM_ERROR_INVALID_INPUT)
      wrong = inputs
      wrong[0].rank = 1 << 40
      #expect(qm_session_run(session, wrong, wrong.count) == QM_ERROR_INVALID_INPUT)
      wrong = inputs
      wrong[0].data = nil
      #expect(qm_session_run(session, wrong, wrong.count) == QM_ERROR_USAGE)
      #expect(qm_session_run(session, inputs, inputs.count) == QM_OK)
      #expect(qm_session_output(session, 1 << 40, &output) == QM_ERROR_USAGE)
      #expect(qm_session_output(session, -1, &output) == QM_ERROR_USAGE)
      // A session keeps what it needs of its model.
      qm_model_close(model)
      #expect(qm_session_run(session, inputs, inputs.count) == QM_OK)
      #expect(qm_model_input_count(model) == 0)
      qm_session_close(session)
      #expect(qm_session_run(session, inputs, inputs.count) == QM_ERROR_USAGE)
      #expect(qm_session_cancel(session) == QM_ERROR_USAGE)
    }
    qm_session_close(session)
    qm_model_close(nil)
  }

  @Test func theRunLimitIsKept() throws {
    var options = qm_options()
    options.run_byte_limit = 1
    try Self.withModel(options: options) { model in
      var session: OpaquePointer?
      #expect(qm_session_create(model, &session) == QM_OK)
      try Self.withInputs(Self.inputs(Model(contentsOf: Self.product))) { inputs in
        #expect(qm_session_run(session, inputs, inputs.count) == QM_ERROR_OUT_OF_MEMORY)
      }
      qm_session_close(session)
    }
  }

  @Test func constantsAreThoseOfTheRuntime() {
    for type in ElementType.allCases {
      #expect(qm_element_size(Int32(type.rawValue)) == type.byteCount)
    }
    #expect(qm_element_size(0) == 0 && qm_element_size(300) == 0)
    #expect(UInt8(QM_TYPE_BFLOAT16.rawValue) == ElementType.bfloat16.rawValue)
    #expect(UInt8(QM_TYPE_FLOAT32.rawValue) == ElementType.float32.rawValue)
    #expect(String(cString: qm_kernel_sets()).contains("portable"))
    #expect(String(cString: qm_version()) == packageVersion)
  }
}
