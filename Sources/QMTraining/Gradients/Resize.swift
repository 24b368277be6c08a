import QMOperations
import QMTensor

/// Along each axis, y[i] = Σ over the elements j that i reads: w[i, j] · x[j], so that
/// ∂x[j] = Σ over the outputs i that read j: w[i, j] · ∂y[i]. The axes follow in the opposite order.
extension Resize: Differentiable {
  package func gradient(of node: GradientNode) throws(QMError) -> GradientKernel {
    let output = try node.outputShape()
    var passes: [ResizedAxis] = []
    var shape = try node.shape(0)
    for taps in try taps(of: node.operands, output: output) {
      passes.append(
        ResizedAxis(
          taps: taps, outer: shape[..<taps.axis].reduce(1, *),
          inner: shape[(taps.axis + 1)...].reduce(1, *)))
      shape[taps.axis] = taps.output
    }
    var scratch = ScratchParts()
    // Between two axes.
    let stored = passes.dropFirst().map { scratch.floats($0.inputCount) }
    let ready = passes
    let count = output.reduce(1, *)
    return GradientKernel(scratchByteCount: scratch.byteCount) { memory in
      var source = memory.outputGradients[0]!
      guard !ready.isEmpty else {
        memory.inputGradients[0]!.add(source, count: count, memory.threads)
        return
      }
      for (index, pass) in ready.enumerated().reversed() {
        var target = memory.inputGradients[0]!
        if index > 0 {
          target = memory.scratch.floats(at: stored[index - 1])
          target.update(repeating: 0, count: pass.inputCount)
        }
        pass.add(source, to: target, memory.threads)
        source = target
      }
    }
  }
}

/// The gradient of one axis.
private struct ResizedAxis {
  let taps: Resize.AxisTaps
  let outer: Int
  let inner: Int

  var inputCount: Int { outer * taps.input * inner }

  func add(_ source: Floats, to target: Floats, _ threads: ThreadPool) {
    threads.forRows(outer, elements: taps.output * inner) { blocks in
      for block in blocks {
        for index in 0..<taps.output {
          let row = source + (block * taps.output + index) * inner
          for tap in taps.starts[index]..<taps.starts[index + 1] {
            let (line, weight) = (
              target + (block * taps.input + taps.places[tap]) * inner, taps.weights[tap]
            )
            for column in 0..<inner { line[column] += row[column] * weight }
          }
        }
      }
    }
  }
}
