import QMRuntime
import QMTensor

let model = try Model(contentsOf: "out.qm")
let pixels = [Float](repeating: 0.5, count: 64)  // 8 × 8, row-major
let image = try Tensor([1, 64], pixels)
let outputs = try model.run(["x": image])
let scores = outputs["y"]!.elements(as: Float.self)
print(scores.firstIndex(of: scores.max()!)!)
