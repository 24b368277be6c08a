import QMGraph
import QMOperations
import QMTensor

extension GraphWriter {
  /// Adds the ONNX nodes of a node of the graph.
  /// - Throws: `unsupported` for what ONNX cannot express.
  mutating func write(_ node: Graph.Node) throws(QMError) {
    switch node.operation {
    case .convolution(let operation): try write(operation, node)
    case .matrixMultiply(let operation): try write(operation, node)
    case .recurrent(let operation): try write(operation, node)
    case .unary(let operation): try write(operation, node)
    case .binary(let operation): try write(operation, node)
    case .table: try writeTable(node)
    case .cast(let operation):
      let type = Int(operation.elementType.onnxType)
      try emit("Cast", inputs(node), node, [("to", .integer(type))])
    case .comparison(let operation): try write(operation, node)
    case .logic(let operation): try write(operation, node)
    case .isNaNOrInf(let operation): try write(operation, node)
    case .select: try emit("Where", inputs(node), node)
    case .pooling(let operation): try write(operation, node)
    case .reduction(let operation): try write(operation, node)
    case .softmax(let operation):
      try emit(
        operation.kind == .softmax ? "Softmax" : "LogSoftmax", inputs(node), node,
        [("axis", .integer(operation.axis))])
    case .batchNormalization(let operation): try write(operation, node)
    case .layerNormalization(let operation): try write(operation, node)
    case .groupNormalization(let operation): try write(operation, node)
    case .argMinMax(let operation): try write(operation, node)
    case .topK(let operation): try write(operation, node)
    case .cumulativeSum(let operation): try write(operation, node)
    case .resize(let operation): try write(operation, node)
    case .identity: try emit("Identity", inputs(node), node)
    case .reshape(let operation): try write(operation, node)
    case .flatten(let operation):
      try emit("Flatten", inputs(node), node, [("axis", .integer(operation.axis))])
    case .squeeze(let operation): try write(operation, node)
    case .unsqueeze(let operation): try write(operation, node)
    case .transpose(let operation):
      try emit("Transpose", inputs(node), node, [("perm", .integers(operation.permutation))])
    case .concatenate(let operation):
      try emit("Concat", inputs(node), node, [("axis", .integer(operation.axis))])
    case .split(let operation): try write(operation, node)
    case .slice: try emit("Slice", inputs(node), node)
    case .pad(let operation): try write(operation, node)
    case .gather(let operation):
      try emit("Gather", inputs(node), node, [("axis", .integer(operation.axis))])
    case .expand: try emit("Expand", [input(node, 0), wideInput(node, 1)], node)
    case .tile: try emit("Tile", [input(node, 0), wideInput(node, 1)], node)
    case .shape(let operation): try write(operation, node)
    case .fill: try writeFill(node)
    case .range: try emit("Range", inputs(node), node)
    case .oneHot(let operation):
      try emit("OneHot", inputs(node), node, [("axis", .integer(operation.axis))])
    case .trilu(let operation):
      try emit("Trilu", inputs(node), node, [("upper", .flag(operation.isUpper))])
    case .gatherElements(let operation):
      try emit("GatherElements", inputs(node), node, [("axis", .integer(operation.axis))])
    case .gatherND(let operation):
      try emit(
        "GatherND", [input(node, 0), wideInput(node, 1)], node,
        [("batch_dims", .integer(operation.batchAxes))])
    case .scatterElements(let operation): try write(operation, node)
    case .scatterND(let operation): try write(operation, node)
    case .nonZero: try emit("NonZero", inputs(node), node)
    case .depthToSpace(let operation): try write(operation, node)
    case .spaceToDepth(let operation): try write(operation, node)
    case .if: try writeIf(node)
    case .loop(let operation): try write(operation, node)
    case .quantize(let operation): try write(operation, node)
    case .dynamicQuantize(let operation): try write(operation, node)
    case .dequantize: try writeDequantize(node)
    }
  }
}
