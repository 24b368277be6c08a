import QMTensor
import Testing

@Suite struct QMErrorTests {
  @Test func remediesStandAfterTheMessageInTheWordsOfTheCaller() {
    let error = QMError.unsupported(
      "unsupported operator", remedies: .changeModel(how: "unroll it"), .cutBefore
    ).within(.node(name: "loop", operation: "Loop")).within(.file("in.onnx"))
    #expect(
      error.description
        == "in.onnx: node 'loop' (Loop): unsupported operator; unroll it, or cut the graph before it"
    )
    #expect(
      error.description { $0 == .cutBefore ? "pass outputs" : $0.description }
        == "in.onnx: node 'loop' (Loop): unsupported operator; unroll it, or pass outputs")
    #expect(error.remedies == [.changeModel(how: "unroll it"), .cutBefore])
  }

  @Test func contextKeepsWhatTheErrorSays() {
    #expect(throws: QMError.outOfMemory(byteCount: 8)) {
      do throws(QMError) {
        try within(.value("x")) { () throws(QMError) in throw .outOfMemory(byteCount: 8) }
      } catch {
        #expect(error.description == "value 'x': could not allocate 8 bytes")
        throw error
      }
    }
  }

  @Test func aPlaceIsNamedOnce() {
    let error = QMError.malformed("bad").within(.file("a")).within(.file("a"))
    #expect(error.description == "a: bad")
    #expect(
      error.within(.file("b")).within(.file("a")).context == [.file("a"), .file("b"), .file("a")])
  }

  /// Names come from files.
  @Test func oneLineWhateverTheNames() {
    let error = QMError.malformed("bad").within(.entry("a\nb\u{1B}[31m"))
    #expect(error.description == "entry 'a\\u{a}b\\u{1b}[31m': bad")
    #expect(
      QMError.malformed("").within(.value(String(repeating: "n", count: 5000))).description.count
        < 200)
  }
}
