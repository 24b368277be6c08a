import QMOperations
import QMTensor

/// The number of an operation in files. Raw values never change and are never reused.
package enum Opcode: UInt8, CaseIterable {
  // Convolutions, matrix products and recurrent layers, from 1.
  case convolution = 1
  case matrixMultiply = 2
  case recurrent = 3
  /// A convolution over an input with gaps between its elements.
  case transposedConvolution = 8
  // Element-wise, from 16.
  case unary = 16
  case binary = 17
  case table = 18
  case cast = 19
  case comparison = 20
  case logic = 21
  case isNaNOrInf = 22
  case select = 23
  // Operations over windows and axes, from 32.
  case pooling = 32
  case reduction = 33
  case softmax = 34
  case batchNormalization = 35
  case layerNormalization = 36
  case argMinMax = 37
  case topK = 38
  case cumulativeSum = 39
  case resize = 40
  case groupNormalization = 41
  // Data movement, from 64.
  case identity = 64
  case reshape = 65
  case flatten = 66
  case squeeze = 67
  case unsqueeze = 68
  case transpose = 69
  case concatenate = 70
  case split = 71
  case slice = 72
  case pad = 73
  case gather = 74
  case expand = 75
  case tile = 76
  case shape = 77
  case fill = 78
  case range = 79
  case oneHot = 80
  case trilu = 81
  case gatherElements = 82
  case gatherND = 83
  case scatterElements = 84
  case scatterND = 85
  case nonZero = 86
  case depthToSpace = 87
  case spaceToDepth = 88
  case `if` = 89
  case loop = 90
  // Conversion between float32 and codes, from 96.
  case quantize = 96
  case dynamicQuantize = 97
  case dequantize = 98
}

extension Operation {
  /// The number of the operation in files.
  package var opcode: Opcode {
    switch self {
    case .convolution(let operation):
      operation.isTransposed ? .transposedConvolution : .convolution
    case .matrixMultiply: .matrixMultiply
    case .recurrent: .recurrent
    case .unary: .unary
    case .binary: .binary
    case .table: .table
    case .cast: .cast
    case .comparison: .comparison
    case .logic: .logic
    case .isNaNOrInf: .isNaNOrInf
    case .select: .select
    case .pooling: .pooling
    case .reduction: .reduction
    case .softmax: .softmax
    case .batchNormalization: .batchNormalization
    case .layerNormalization: .layerNormalization
    case .argMinMax: .argMinMax
    case .topK: .topK
    case .cumulativeSum: .cumulativeSum
    case .resize: .resize
    case .groupNormalization: .groupNormalization
    case .identity: .identity
    case .reshape: .reshape
    case .flatten: .flatten
    case .squeeze: .squeeze
    case .unsqueeze: .unsqueeze
    case .transpose: .transpose
    case .concatenate: .concatenate
    case .split: .split
    case .slice: .slice
    case .pad: .pad
    case .gather: .gather
    case .expand: .expand
    case .tile: .tile
    case .shape: .shape
    case .fill: .fill
    case .range: .range
    case .oneHot: .oneHot
    case .trilu: .trilu
    case .gatherElements: .gatherElements
    case .gatherND: .gatherND
    case .scatterElements: .scatterElements
    case .scatterND: .scatterND
    case .nonZero: .nonZero
    case .depthToSpace: .depthToSpace
    case .spaceToDepth: .spaceToDepth
    case .if: .if
    case .loop: .loop
    case .quantize: .quantize
    case .dynamicQuantize: .dynamicQuantize
    case .dequantize: .dequantize
    }
  }

  /// The operation of this number, with the attributes that `visitor` sets.
  /// - Throws: the error of the visitor.
  package init<V: AttributeVisitor>(_ opcode: Opcode, visitedBy visitor: inout V) throws(QMError) {
    func visited<Body: OperationProtocol>(
      _ operation: (Body) -> Operation, _ placeholder: Body
    ) throws(QMError) -> Operation {
      var body = placeholder
      try body.visitAttributes(&visitor)
      return operation(body)
    }
    switch opcode {
    case .convolution: self = try visited(Operation.convolution, .placeholder)
    case .matrixMultiply: self = try visited(Operation.matrixMultiply, .placeholder)
    case .recurrent: self = try visited(Operation.recurrent, .placeholder)
    case .transposedConvolution:
      self = try visited(Operation.convolution, .transposedPlaceholder)
    case .unary: self = try visited(Operation.unary, .placeholder)
    case .binary: self = try visited(Operation.binary, .placeholder)
    case .table: self = try visited(Operation.table, .placeholder)
    case .cast: self = try visited(Operation.cast, .placeholder)
    case .comparison: self = try visited(Operation.comparison, .placeholder)
    case .logic: self = try visited(Operation.logic, .placeholder)
    case .isNaNOrInf: self = try visited(Operation.isNaNOrInf, .placeholder)
    case .select: self = try visited(Operation.select, .placeholder)
    case .pooling: self = try visited(Operation.pooling, .placeholder)
    case .reduction: self = try visited(Operation.reduction, .placeholder)
    case .softmax: self = try visited(Operation.softmax, .placeholder)
    case .batchNormalization: self = try visited(Operation.batchNormalization, .placeholder)
    case .layerNormalization: self = try visited(Operation.layerNormalization, .placeholder)
    case .argMinMax: self = try visited(Operation.argMinMax, .placeholder)
    case .topK: self = try visited(Operation.topK, .placeholder)
    case .cumulativeSum: self = try visited(Operation.cumulativeSum, .placeholder)
    case .resize: self = try visited(Operation.resize, .placeholder)
    case .groupNormalization: self = try visited(Operation.groupNormalization, .placeholder)
    case .identity: self = try visited(Operation.identity, .placeholder)
    case .reshape: self = try visited(Operation.reshape, .placeholder)
    case .flatten: self = try visited(Operation.flatten, .placeholder)
    case .squeeze: self = try visited(Operation.squeeze, .placeholder)
    case .unsqueeze: self = try visited(Operation.unsqueeze, .placeholder)
    case .transpose: self = try visited(Operation.transpose, .placeholder)
    case .concatenate: self = try visited(Operation.concatenate, .placeholder)
    case .split: self = try visited(Operation.split, .placeholder)
    case .slice: self = try visited(Operation.slice, .placeholder)
    case .pad: self = try visited(Operation.pad, .placeholder)
    case .gather: self = try visited(Operation.gather, .placeholder)
    case .expand: self = try visited(Operation.expand, .placeholder)
    case .tile: self = try visited(Operation.tile, .placeholder)
    case .shape: self = try visited(Operation.shape, .placeholder)
    case .fill: self = try visited(Operation.fill, .placeholder)
    case .range: self = try visited(Operation.range, .placeholder)
    case .oneHot: self = try visited(Operation.oneHot, .placeholder)
    case .trilu: self = try visited(Operation.trilu, .placeholder)
    case .gatherElements: self = try visited(Operation.gatherElements, .placeholder)
    case .gatherND: self = try visited(Operation.gatherND, .placeholder)
    case .scatterElements: self = try visited(Operation.scatterElements, .placeholder)
    case .scatterND: self = try visited(Operation.scatterND, .placeholder)
    case .nonZero: self = try visited(Operation.nonZero, .placeholder)
    case .depthToSpace: self = try visited(Operation.depthToSpace, .placeholder)
    case .spaceToDepth: self = try visited(Operation.spaceToDepth, .placeholder)
    case .if: self = try visited(Operation.if, .placeholder)
    case .loop: self = try visited(Operation.loop, .placeholder)
    case .quantize: self = try visited(Operation.quantize, .placeholder)
    case .dynamicQuantize: self = try visited(Operation.dynamicQuantize, .placeholder)
    case .dequantize: self = try visited(Operation.dequantize, .placeholder)
    }
  }
}
