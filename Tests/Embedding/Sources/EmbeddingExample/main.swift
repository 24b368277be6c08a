import QMRuntime
import QMTensor

guard CommandLine.arguments.count == 2 else { fatalError("usage: EmbeddingExample model.qm") }
let model = try Model(contentsOf: CommandLine.arguments[1])
var inputs: [String: Tensor] = [:]
for port in model.inputs {
  inputs[port.name] = try Tensor(
    zeros: port.type.elementType, port.type.shape.axes.map { $0.extent ?? 1 })
}
let outputs = try model.run(inputs)
for (name, tensor) in outputs.sorted(by: { $0.key < $1.key }) { print(name, tensor) }
