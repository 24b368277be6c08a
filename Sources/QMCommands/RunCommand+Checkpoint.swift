import QMNumPy
import QMReport
import QMRuntime
import QMTensor

/// `qrun w.qm --output w.npz`: the arrays of a file of weights.
extension RunCommand {
  /// Writes what the file gives without an input, the arrays in their order.
  func unpack(_ network: Model, to path: String, _ console: Console) throws(QMError) {
    guard samples == nil else {
      throw QMError.usage("the file has no inputs that samples could feed").within(.file(model))
    }
    guard path.lowercased().hasSuffix(".npz") else {
      throw QMError.usage("the file holds arrays and no network; give --output a name in .npz")
        .within(.file(path))
    }
    guard !Process.isSameFile(model, path) else {
      throw QMError.usage("the output is the input; give another name").within(.file(path))
    }
    // Without a copy, where they are computed already.
    let weights = network.weights
    let results = weights.count == network.outputs.count ? weights : try network.run([:])
    let arrays = network.outputs.compactMap { port in results[port.name].map { (port.name, $0) } }
    try Process.uninterrupted { () throws(QMError) in try NPZArchive.write(arrays, to: path) }
    let report = UnpackReport(
      model: model, output: path, arrays: arrays.count,
      bytes: arrays.reduce(0) { $0 + $1.1.byteCount })
    console.line(
      "\(Units.count(arrays.count, "array")), \(Units.bytes(report.bytes)), written to \(path)")
    try console.json(report)
    try console.finish()
  }
}
