import QMGraph
import QMONNX
import QMReport
import QMTensor

extension ONNXSummary: Report {}

/// `qinspect in.onnx`: lists what a float network holds, and draws it.
extension InspectCommand {
  func inspectNetwork(_ console: Console) throws(QMError) {
    let summary = try ONNXSummary(path: file)
    if let graph {
      // As it was read, without simplification: the nodes are those of the file.
      let network = try ONNXReader.read(path: file)
      let drawing = try within(.file(file)) { () throws(QMError) in
        let program = try network.flattened().program
        return GraphReport(
          path: file, program, multiplyAdds: try InspectCommand.multiplyAdds(of: program))
      }
      try write(drawing, to: graph)
    }
    let producer = summary.producer.isEmpty ? "an unknown tool" : summary.producer
    console.line("\(summary.file): \(Units.bytes(summary.bytes)), made by \(producer)")
    console.line("operator set \(summary.opset.map(String.init) ?? "not stated")")
    for (kind, ports) in [("input", summary.inputs), ("output", summary.outputs)] {
      for port in ports {
        console.line("\(kind) \(port.name.abbreviated): \(port.type) \(port.shapeText)")
      }
    }
    console.line()
    console.table(
      ["operator", "nodes", "can be read"],
      summary.operators.map {
        [$0.name.abbreviated, "\($0.count)", $0.isSupported ? "yes" : "no"]
      }, trailing: [1])
    console.line()
    console.table(
      ["weight", "type", "shape"],
      summary.weights.map { [$0.name.abbreviated, $0.type, $0.shapeText] })
    try console.json(summary)
    try console.finish()
  }
}

extension ONNXSummary.Port {
  fileprivate var shapeText: String {
    shape.map { "[\($0.joined(separator: ", "))]" } ?? "of unknown shape"
  }
}
