import QMOperations
import QMTensor

// Losses that some exporters leave in a network.

extension NodeReader {
  func negativeLogLikelihood() throws(QMError) {
    try finish([negativeLogLikelihood(of: float(0))])
  }

  /// SoftmaxCrossEntropyLoss: the loss of the logarithms of the softmax, and these.
  func softmaxCrossEntropy() throws(QMError) {
    let logarithms = try call("LogSoftmax", float(0), with: ["axis": .integer(1)])
    try finish([negativeLogLikelihood(of: logarithms), logarithms])
  }

  /// The weighted negative logarithms of the likelihoods of classes, input 1, reduced as the attribute
  /// `reduction` says.
  private func negativeLogLikelihood(of logarithms: Value) throws(QMError) -> Value {
    let given = try raw(1)
    guard shape(logarithms).rank == shape(given).rank + 1, shape(given).rank >= 1 else {
      throw .malformed(
        "classes \(shape(given)) for \(shape(logarithms)); expected the same axes without the second"
      )
    }
    let classes =
      given.type == .int64
      ? given : try append(.cast(Cast(to: .int64)), [given], as: .int64, "classes")
    var isIgnored: Value?
    var indices = classes
    if let ignored = try integer("ignore_index") {
      let mask = try call(
        "Equal", classes, addConstant(Tensor([], [Int64(ignored)]), "ignored"))
      isIgnored = mask
      indices = try call("Where", mask, number(0, like: classes), classes)
    }
    let axes = try integers([1])
    let picked = try call(
      "Squeeze",
      call(
        "GatherElements", logarithms, call("Unsqueeze", indices, axes),
        with: ["axis": .integer(1)]), axes)
    var loss = try call("Neg", picked)
    var weights: Value?
    if let table = try optionalFloat(2) {
      let own = try call("Gather", table, indices)
      weights = own
      loss = try call("Mul", loss, own)
    }
    if let isIgnored {
      let zero = try number(0, like: loss)
      loss = try call("Where", isIgnored, zero, loss)
      let one = try number(1, like: loss)
      weights = try call("Where", isIgnored, zero, weights ?? one)
    }
    let all: [String: ONNXAttribute.Value] = ["keepdims": .integer(0)]
    switch try text("reduction", default: "mean") {
    case "none": return loss
    case "sum": return try call("ReduceSum", loss, with: all)
    case "mean":
      guard let weights else { return try call("ReduceMean", loss, with: all) }
      return try call(
        "Div", call("ReduceSum", loss, with: all), call("ReduceSum", weights, with: all))
    case let name:
      throw .malformed("reduction '\(name.abbreviated)'; ONNX defines none, sum and mean")
    }
  }
}
