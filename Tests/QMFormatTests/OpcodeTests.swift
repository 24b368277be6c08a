import QMFormat
import QMOperations
import QMTensor
import Testing

/// Numbers that are written in files. A failure here is a compatibility break: never change an
/// expectation, only add to them.
struct OpcodeTests {
  @Test func `Compatibility break: the number of an operation has changed`() {
    let frozen: [Opcode: UInt8] = [
      .convolution: 1, .matrixMultiply: 2, .recurrent: 3, .unary: 16, .binary: 17, .table: 18,
      .cast: 19,
      .pooling: 32, .reduction: 33, .softmax: 34, .batchNormalization: 35,
      .layerNormalization: 36, .identity: 64, .reshape: 65, .flatten: 66, .squeeze: 67,
      .unsqueeze: 68, .transpose: 69, .concatenate: 70, .split: 71, .slice: 72, .pad: 73,
      .gather: 74, .expand: 75, .tile: 76, .shape: 77, .fill: 78, .quantize: 96,
      .dynamicQuantize: 97, .dequantize: 98, .transposedConvolution: 8, .comparison: 20,
      .logic: 21, .isNaNOrInf: 22, .select: 23, .argMinMax: 37, .topK: 38,
      .cumulativeSum: 39, .resize: 40, .groupNormalization: 41, .range: 79, .oneHot: 80,
      .trilu: 81, .gatherElements: 82, .gatherND: 83, .scatterElements: 84, .scatterND: 85,
      .nonZero: 86, .depthToSpace: 87, .spaceToDepth: 88, .if: 89, .loop: 90,
    ]
    for opcode in Opcode.allCases { #expect(frozen[opcode] == opcode.rawValue) }
    var generator = ProgramGenerator(seed: 0)
    for opcode in Opcode.allCases { #expect(generator.operation(opcode).opcode == opcode) }
  }

  @Test func `Compatibility break: the number of an attribute has changed`() {
    #expect(ElementType.allCases.map(\.rawValue) == Array(1...13))
    #expect(ElementType.float32.rawValue == 1 && ElementType.int8.rawValue == 3)
    #expect(ElementType.int32.rawValue == 6 && ElementType.bfloat16.rawValue == 13)
    #expect(ChannelOrder.channelsFirst.rawValue == 0 && ChannelOrder.channelsLast.rawValue == 1)
    #expect(RightLayout.depthFirst.rawValue == 0 && RightLayout.channelsFirst.rawValue == 1)
    #expect(Recurrent.Cell.allCases.map(\.rawValue) == Array(0...4))
    #expect(Recurrent.Cell.gruResetAfter.rawValue == 2)
    #expect(Recurrent.Cell.lstm.rawValue == 3)
    #expect(Recurrent.Direction.allCases.map(\.rawValue) == Array(0...2))
    #expect(Recurrent.Direction.reverse.rawValue == 1)
    #expect(Recurrent.Inputs.real.rawValue == 0 && Recurrent.Inputs.roundedPerRow.rawValue == 1)
    #expect(BinaryFunction.allCases.map(\.rawValue) == Array(0...8))
    #expect(BinaryFunction.divide.rawValue == 3 && BinaryFunction.power.rawValue == 6)
    #expect(BinaryFunction.parametricRelu.rawValue == 8)
    #expect(Compare.Function.allCases == [.equal, .less, .lessOrEqual, .greater, .greaterOrEqual])
    #expect(Compare.Function.greaterOrEqual.rawValue == 4)
    #expect(Logic.Function.allCases.map(\.rawValue) == [0, 1, 2])
    #expect(Logic.Function.exclusiveOr.rawValue == 2 && Logic.Function.and.rawValue == 0)
    #expect(IsNaNOrInf.Kind.notANumber.rawValue == 0)
    #expect(IsNaNOrInf.Kind.negativeInfinite.rawValue == 3)
    #expect(ArgMinMax.Kind.maximum.rawValue == 0 && ArgMinMax.Kind.minimum.rawValue == 1)
    #expect(Resize.Rounding.nearestPreferringFloor.rawValue == 0)
    #expect(Resize.Rounding.floor.rawValue == 2 && Resize.Rounding.ceiling.rawValue == 3)
    #expect(Resize.Coordinates.halfPixel.rawValue == 0 && Resize.Coordinates.region.rawValue == 6)
    #expect(Resize.Coordinates.asymmetric.rawValue == 4)
    #expect(ScatterReduction.replace.rawValue == 0 && ScatterReduction.maximum.rawValue == 4)
    #expect(Pooling.Kind.maximum.rawValue == 0 && Pooling.Kind.averageOfInside.rawValue == 1)
    #expect(Pooling.Kind.averageOfPadded.rawValue == 2)
    #expect(Reduction.Kind.allCases.map(\.rawValue) == Array(0...9))
    #expect(Reduction.Kind.norm.rawValue == 6 && Reduction.Kind.logarithmOfSum.rawValue == 8)
    #expect(Softmax.Kind.softmax.rawValue == 0 && Softmax.Kind.logSoftmax.rawValue == 1)
    #expect(Pad.Mode.constant.rawValue == 0 && Pad.Mode.reflect.rawValue == 1)
    #expect(Pad.Mode.edge.rawValue == 2 && Pad.Mode.wrap.rawValue == 3)
    #expect(Program.Metadata.Measure.allCases.map(\.rawValue) == Array(0...6))
    #expect(ExecutionMode.allCases.map(\.rawValue) == Array(0...3))
    #expect(Container.Kind.program.rawValue == 1 && Container.Kind.data.rawValue == 2)
    #expect(Container.Kind.names.rawValue == 128 && Container.Kind.metadata.rawValue == 129)
  }
}
