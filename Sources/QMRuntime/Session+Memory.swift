import QMOperations
import QMTensor

extension Session {
  /// ``arenaByteCount`` after a run on inputs of these shapes, in bytes, known without running:
  /// nothing of that size is allocated. The inputs and outputs come in addition.
  /// - Parameter shapes: the shape of each input, in the order of ``Model/inputs``.
  /// - Throws: `invalidInput` if they do not fit the model; `outOfMemory` if such a run would throw
  ///   it; `unsupported` if the memory depends on the content of the inputs, too.
  public func memoryNeeded(for shapes: [[Int]]) throws(QMError) -> Int {
    let inputs = try zeros(shapes) { (byteCount) throws(QMError) in
      try Buffer.zeros(byteCount: byteCount)
    }
    let request = request(for: inputs, keepsAll: false)
    return try withStandardFloatEnvironment { () throws(QMError) in
      let resolution = try resolution(of: request)
      guard model.switchInputs.isEmpty, resolution.deciding.isEmpty, resolution.loop == nil
      else {
        throw .unsupported(
          "the memory of a run depends on the content of the inputs, not only on shapes")
      }
      let planned = try PlannedSteps(model, resolution, joining: true)
      return try ValueMemory.Layout(
        model, resolution, planned.steps, threadCount: threads.threadCount
      ).byteCount
    }
  }
}
