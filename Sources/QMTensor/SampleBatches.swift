/// Samples of a network whose inputs have a fixed batch, from samples of fewer items.
///
/// Samples of one item are put together in their order; a sample of several items is a batch of its
/// own. A batch that stays short is filled with copies of its last item.
public struct SampleBatches: SampleSource {
  private let whole: any SampleSource
  /// Items of a batch.
  private let size: Int
  /// Samples of the whole source per batch: 1 or `size`.
  private let samplesPerBatch: Int

  /// Batches of the samples that `open` gives.
  /// - Parameters:
  ///   - inputs: all inputs of the network.
  ///   - open: opens the samples for inputs that take any number of items.
  /// - Returns: nil if the inputs do not have one fixed batch of at least 2 items.
  /// - Throws: the error of `open`, or of the first sample.
  public init?(
    of inputs: [SampleInput], open: ([SampleInput]) throws(QMError) -> any SampleSource
  ) throws(QMError) {
    let extents = Set(inputs.map { $0.type?.shape.axes.first?.extent })
    guard let common = extents.first, extents.count == 1, let size = common, size > 1 else {
      return nil
    }
    whole = try open(inputs.map(\.withAnyBatch))
    guard whole.count > 0 else { return nil }
    self.size = size
    let items = try whole.inputs(of: 0).values.map { $0.shape[0] }.max()
    samplesPerBatch = items == 1 ? size : 1
  }

  /// Number of batches.
  public var count: Int { (whole.count + samplesPerBatch - 1) / samplesPerBatch }

  /// The samples of a batch.
  private func samples(of index: Int) -> Range<Int> {
    let first = index * samplesPerBatch
    return first..<min(first + samplesPerBatch, whole.count)
  }

  /// The name of the sample, or of the first and the last one.
  public func name(of index: Int) -> String {
    let samples = samples(of: index)
    let first = whole.name(of: samples.lowerBound)
    return samples.count == 1 ? first : "\(first)…\(whole.name(of: samples.upperBound - 1))"
  }

  /// The inputs of a batch.
  /// - Throws: as the whole source does; `invalidInput` if the samples have too many items.
  public func inputs(of index: Int) throws(QMError) -> [String: Tensor] {
    var parts: [String: [Tensor]] = [:]
    for sample in samples(of: index) {
      for (name, tensor) in try whole.inputs(of: sample) { parts[name, default: []].append(tensor) }
    }
    return try joined(parts)
  }

  /// The known outputs of a batch, as far as all its samples have them.
  /// - Throws: as the whole source does.
  public func expectedOutputs(of index: Int) throws(QMError) -> [String: Tensor] {
    let samples = samples(of: index)
    var parts: [String: [Tensor]] = [:]
    for sample in samples {
      for (name, tensor) in try whole.expectedOutputs(of: sample) where !tensor.shape.isEmpty {
        parts[name, default: []].append(tensor)
      }
    }
    return try joined(parts.filter { $1.count == samples.count })
  }

  /// Tensors one behind another along the first axis, filled up to a batch.
  private func joined(_ parts: [String: [Tensor]]) throws(QMError) -> [String: Tensor] {
    var whole: [String: Tensor] = [:]
    for (name, tensors) in parts {
      let items = tensors.reduce(0) { $0 + $1.shape[0] }
      let rest = Array(tensors[0].shape.dropFirst())
      guard (1...size).contains(items), tensors.allSatisfy({ Array($0.shape.dropFirst()) == rest })
      else {
        throw .invalidInput(
          "\(items) items for '\(name.abbreviated)', which takes \(size) of one shape; "
            + "split the sample")
      }
      let result = try Tensor(zeros: tensors[0].elementType, [size] + rest)
      let base = result.buffer.base
      var place = 0
      for tensor in tensors {
        base.advanced(by: place).copyMemory(
          from: tensor.bytes.baseAddress ?? UnsafeRawPointer(base), byteCount: tensor.byteCount)
        place += tensor.byteCount
      }
      let length = result.byteCount / size
      while place < result.byteCount {
        base.advanced(by: place).copyMemory(from: base + place - length, byteCount: length)
        place += length
      }
      whole[name] = result
    }
    return whole
  }

  /// The outputs of a batch, for each of its samples, without those of copies. An output whose
  /// first axis does not count the items is given to each sample as it is.
  public func outputs(
    _ outputs: [String: Tensor], of index: Int
  ) throws(QMError) -> [(name: String, outputs: [String: Tensor])] {
    var result: [(name: String, outputs: [String: Tensor])] = []
    for (place, sample) in samples(of: index).enumerated() {
      let items =
        samplesPerBatch > 1 ? 1 : try whole.inputs(of: sample).values.first?.shape[0] ?? size
      var own: [String: Tensor] = [:]
      for (name, tensor) in outputs {
        guard tensor.shape.first == size else {
          own[name] = tensor
          continue
        }
        own[name] = try Tensor(
          tensor.elementType, [items] + tensor.shape.dropFirst(), buffer: tensor.buffer,
          byteOffset: tensor.byteOffset + place * (tensor.byteCount / size))
      }
      result.append((whole.name(of: sample), own))
    }
    return result
  }
}

extension SampleInput {
  /// The same input with a dynamic first axis.
  fileprivate var withAnyBatch: SampleInput {
    guard var type else { return self }
    type.shape.axes[0] = .free("")
    return SampleInput(name, type, arrayName: arrayName)
  }
}
