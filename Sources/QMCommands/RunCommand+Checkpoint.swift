import QMNumPy
import QMReport
import QMRuntime
import QMTensor

/// `qrun w.qm --output w.npz`: unpacks a checkpoint.
extension RunCommand {
  /// Writes the arrays of the checkpoint, dequantized and in order.
  func unpack(_ network: Model, to path: String, _ console: Console) throws(QMError) {
    guard samples == nil else {
      throw QMError.usage("the file holds arrays without a network; leave out the samples")
        .within(.file(model))
    }
    guard path.lowercased().hasSuffix(".npz") else {
      throw QMError.usage(
        "the file holds arrays without a network; give --output a name that ends in .npz"
      )
      .within(.file(path))
    }
    guard !Process.isSameFile(model, path) else {
      throw QMError.usage("the output is the input; give another name").within(.file(path))
    }
    // The arrays are already computed unless memory is compact.
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
