import Foundation
import QMFormat
import QMNumPy
import QMQuantization
import QMTensor

/// The samples of a folder, checked as they are loaded.
struct Samples: SampleSource {
  private let folder: SampleFolder
  let stems: [String]

  /// - Parameters:
  ///   - inputs: name and type of all inputs of the network.
  ///   - limit: how many are taken at most, evenly over all of them.
  init(
    path: String, inputs: [(name: String, type: ValueType)], outputs: [String], limit: Int? = nil
  ) throws(QMError) {
    folder = try SampleFolder(
      path: path, inputs: inputs.map { .init($0.name, $0.type) }, outputs: outputs)
    let all = folder.stems
    let count = min(all.count, limit ?? all.count)
    stems = (0..<count).map { all[$0 * all.count / count] }
  }

  init(path: String, for program: Program, limit: Int? = nil) throws(QMError) {
    try self.init(
      path: path,
      inputs: program.inputs.map { (program.values[$0].name, program.values[$0].type) },
      outputs: program.outputs.map(\.name), limit: limit)
  }

  var count: Int { stems.count }

  func name(of index: Int) -> String { stems[index] }

  func inputs(of index: Int) throws(QMError) -> [String: Tensor] { try sample(index).inputs }

  /// - Throws: also `invalidInput` if an input holds a number that is not finite.
  func sample(_ index: Int) throws(QMError) -> SampleFolder.Sample {
    let sample = try folder.sample(stems[index])
    for (name, tensor) in sample.inputs.sorted(by: { $0.key < $1.key })
    where tensor.elementType == .float32 {
      guard
        let place = tensor.withElements(
          as: Float.self, { (elements) in elements.firstIndex { !$0.isFinite } })
      else { continue }
      let found = tensor.elements(as: Float.self)[place].isNaN ? "NaN" : "an infinite number"
      throw QMError.invalidInput(
        "element \(place) is \(found); samples hold finite numbers; remove the sample or mend it"
      ).within(.file(path(of: sample.stem, input: name)))
    }
    return sample
  }

  private func path(of stem: String, input: String) -> String {
    let base = folder.path + (folder.path.hasSuffix("/") ? "" : "/") + stem
    let candidates = [base + ".npy", base + ".\(sampleKey(for: input)).npy", base + ".npz"]
    return candidates.first { access($0, F_OK) == 0 } ?? base
  }
}
