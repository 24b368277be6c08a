import Foundation
import QMGraph
import QMNumPy
import QMOperations
import QMQuantization
import QMRuntime
import QMTensor
import QMTestSupport
import Testing

/// Samples may be seen in parts, on several machines: the result is that of one run over all.
@Suite struct ObservationsTests {
  private func graph(seed: UInt64 = 7) throws -> Graph {
    var generator = SeededGenerator(seed: seed)
    func numbers(_ shape: [Int]) throws -> Tensor {
      try Tensor(
        shape,
        (0..<shape.reduce(1, *)).map { _ in Float.random(in: -1...1, using: &generator) })
    }
    var graph = Graph()
    let x = try graph.addInput(
      name: "x", ValueType(.float32, Shape([.free("n"), .fixed(3), .fixed(8), .fixed(8)])))
    let first = try graph.append(
      .convolution(
        Convolution(
          order: .channelsFirst, strides: [1, 1], dilations: [1, 1],
          padding: .explicit(before: [1, 1], after: [1, 1]), groups: 1)),
      name: "first", [x, graph.addConstant(name: "w1", numbers([16, 3, 3, 3]))])[0]
    let relu = try graph.append(.unary(Unary(.relu)), name: "relu", [first])[0]
    let second = try graph.append(
      .convolution(
        Convolution(
          order: .channelsFirst, strides: [2, 2], dilations: [1, 1],
          padding: .explicit(before: [1, 1], after: [1, 1]), groups: 16)),
      name: "second", [relu, graph.addConstant(name: "w2", numbers([16, 1, 3, 3]))])[0]
    let rows = try graph.append(
      .reshape(Reshape()), name: "rows",
      [second, graph.addConstant(name: "shape", Tensor([2], [Int64(-1), 256]))])[0]
    let last = try graph.append(
      .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), name: "last",
      [rows, graph.addConstant(name: "w3", numbers([10, 256]))])[0]
    try graph.addOutput(name: "y", last)
    return graph
  }

  private func samples(_ count: Int) throws -> [[String: Tensor]] {
    var generator = SeededGenerator(seed: 5)
    return try (0..<count).map { _ in
      [
        "x": try Tensor(
          [1, 3, 8, 8], (0..<192).map { _ in Float.random(in: -1...1, using: &generator) })
      ]
    }
  }

  private func inFolder(_ body: (URL) throws -> Void) throws {
    let folder = FileManager.default.temporaryDirectory
      .appending(path: "observations-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    try body(folder)
  }

  private func converter(threadCount: Int = 1, budget: Int? = nil) throws -> Converter {
    var recipe = Recipe(weights: .codes(4), activations: .int8)
    recipe.rangeEstimator = .meanSquaredError
    return Converter(
      recipe: recipe, options: Model.Options(threadCount: threadCount), memoryBudget: budget)
  }

  @Test func partsGiveTheFileOfTheWhole() throws {
    try inFolder { folder in
      let (graph, samples) = (try graph(), try samples(60))
      let whole = try converter().convert(graph, samples: TensorSamples(samples))
      let parts = [samples[..<10], samples[10..<35], samples[35...]]
      let paths = (0..<3).map { folder.appending(path: "\($0).qstats").path }
      for (index, part) in parts.enumerated() {
        try converter(threadCount: index + 1, budget: index == 2 ? 1 : nil)
          .observe(graph, samples: TensorSamples(Array(part)), to: paths[index])
      }
      for order in [[0, 1, 2], [2, 0, 1]] {
        for threadCount in [1, 2] {
          let merged = try converter(threadCount: threadCount).convert(
            graph, observations: Observations(contentsOf: order.map { paths[$0] }))
          #expect(merged.program == whole.program)
          #expect(merged.comparisons == whole.comparisons)
          #expect(merged.sampleCount == 60)
        }
      }
    }
  }

  /// Statistics are of the graph for codes, in which channels of unlike size are scaled; float weights
  /// need no such scaling.
  @Test(arguments: [Recipe.WeightWidth.codes(8), .float16, .float32])
  func statisticsServeEveryWidth(weights: Recipe.WeightWidth) throws {
    try inFolder { folder in
      var graph = Graph()
      let x = try graph.addInput(name: "x", ValueType(.float32, Shape([.free("n"), .fixed(4)])))
      let sizes = (0..<20).map { Float($0 % 7 + 1) * [1, 100, 0.1, 30][$0 % 4] }
      let y = try graph.append(
        .matrixMultiply(MatrixMultiply(rightLayout: .channelsFirst)), name: "y",
        [x, graph.addConstant(name: "w", Tensor([5, 4], sizes))])[0]
      try graph.addOutput(name: "y", y)
      var generator = SeededGenerator(seed: 5)
      let samples = try (0..<12).map { _ in
        [
          "x": try Tensor(
            [4, 4], (0..<16).map { _ in Float.random(in: -1...1, using: &generator) })
        ]
      }
      let path = folder.appending(path: "1.qstats").path
      try Converter(recipe: Recipe(weights: weights))
        .observe(graph, samples: TensorSamples(samples), to: path)
      let merged = try Converter(recipe: Recipe(weights: weights)).convert(
        graph, observations: Observations(contentsOf: [path]))
      let whole = try Converter(recipe: Recipe(weights: weights)).convert(
        graph, samples: TensorSamples(samples))
      #expect(merged.program == whole.program)
      let isScaled = merged.program.nodes.contains { $0.operation.name == "Binary" }
      #expect(isScaled == (weights == .codes(8)))
    }
  }

  @Test func equalSamplesInSeveralPartsGiveTheFileOfTheWhole() throws {
    try inFolder { folder in
      let graph = try graph()
      let distinct = try samples(9)
      let all = (0..<40).map { distinct[$0 * $0 % 9] }
      let whole = try converter().convert(graph, samples: TensorSamples(all))
      let paths = (0..<2).map { folder.appending(path: "\($0).qstats").path }
      try converter().observe(graph, samples: TensorSamples(Array(all[..<13])), to: paths[0])
      try converter().observe(graph, samples: TensorSamples(Array(all[13...])), to: paths[1])
      // The kept samples of both are the same few, which looks like a part given twice.
      #expect(throws: QMError.invalidInput("")) { try Observations(contentsOf: paths) }
      let one = folder.appending(path: "one.qstats").path
      try converter().observe(graph, samples: TensorSamples(all), to: one)
      let merged = try converter().convert(graph, observations: Observations(contentsOf: [one]))
      #expect(merged.program == whole.program)
    }
  }

  @Test func theSameSamplesGiveTheSameBytes() throws {
    try inFolder { folder in
      let (graph, samples) = (try graph(), try samples(30))
      var files: [Data] = []
      for (index, (threadCount, budget)) in [(1, nil), (3, nil), (2, 1)].enumerated() {
        let path = folder.appending(path: "\(index).qstats")
        try converter(threadCount: threadCount, budget: budget)
          .observe(graph, samples: TensorSamples(samples), to: path.path)
        files.append(try Data(contentsOf: path))
      }
      #expect(files[1] == files[0])
      #expect(files[2] == files[0])
    }
  }

  @Test func otherNetworksAndPartsGivenTwiceAreRefused() throws {
    try inFolder { folder in
      let (graph, samples) = (try graph(), try samples(4))
      let path = folder.appending(path: "part.qstats").path
      try converter().observe(graph, samples: TensorSamples(samples), to: path)
      // Other weights of the same structure.
      let other = try self.graph(seed: 8)
      let failure = #expect(throws: QMError.self) {
        try converter().convert(other, observations: Observations(contentsOf: [path]))
      }
      #expect(failure?.code == .invalidInput)
      #expect(failure?.remedies == [.observeAgain])
      #expect(throws: QMError.invalidInput("")) { try Observations(contentsOf: [path, path]) }
      // A part of a single sample, and another file of the same sample.
      let (one, again) = (
        folder.appending(path: "one.qstats").path, folder.appending(path: "again.qstats").path
      )
      for path in [one, again] {
        try converter().observe(graph, samples: TensorSamples([samples[0]]), to: path)
      }
      for twice in [[one, one], [one, again]] {
        let failure = #expect(throws: QMError.invalidInput("")) {
          try Observations(contentsOf: twice)
        }
        #expect(failure?.context.first == .file(twice[1]), "\(String(describing: failure))")
      }
      let second = folder.appending(path: "other.qstats").path
      try converter().observe(other, samples: TensorSamples(samples), to: second)
      #expect(throws: QMError.invalidInput("")) { try Observations(contentsOf: [path, second]) }
      #expect(throws: QMError.usage("")) {
        try converter().observe(graph, samples: TensorSamples([]), to: second)
      }
    }
  }

  @Test func damagedFilesAreRefused() throws {
    try inFolder { folder in
      let path = folder.appending(path: "part.qstats").path
      try converter().observe(graph(), samples: TensorSamples(samples(4)), to: path)
      let archive = try NPZArchive(path: path)
      let arrays = try archive.names.map { ($0, try archive.tensor(named: $0)) }
      let damaged = folder.appending(path: "damaged.qstats").path
      func header(_ change: (inout [String: Any]) -> Void) throws -> Tensor {
        let bytes = try archive.tensor(named: "header").elements(as: UInt8.self)
        var object = try #require(
          JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any])
        change(&object)
        let json = [UInt8](try JSONSerialization.data(withJSONObject: object))
        return try Tensor([json.count], json)
      }
      func expectRefused(_ name: String, _ tensor: Tensor?, _ code: QMError.Code) throws {
        let changed = arrays.compactMap { array -> (String, Tensor)? in
          array.0 == name ? tensor.map { (name, $0) } : array
        }
        try NPZArchive.write(changed, to: damaged)
        let failure = #expect(throws: QMError.self, "\(name)") {
          try converter().observeEverything(graph(), Observations(contentsOf: [damaged]))
        }
        #expect(failure?.code == code, "\(name): \(String(describing: failure))")
      }
      for (name, tensor) in arrays where name != "header" {
        try expectRefused(name, nil, .invalidInput)
        try expectRefused(name, Tensor([1], [Int8(1)]), .malformed)
        if name.hasSuffix("counts") {
          try expectRefused(
            name, Tensor(tensor.shape, [Int64](repeating: -1, count: tensor.elementCount)),
            .malformed)
        }
      }
      try expectRefused("header", nil, .malformed)
      try expectRefused("header", Tensor([2], [UInt8](repeating: 0x7b, count: 2)), .malformed)
      try expectRefused("header", header { $0["version"] = 2 }, .unsupported)
      try expectRefused("header", header { $0["source"] = nil }, .malformed)
      try expectRefused("header", header { $0["source"] = "00" }, .malformed)
      try expectRefused("header", header { $0["samples"] = 0 }, .malformed)
      try expectRefused("header", header { $0["samples"] = -3 }, .malformed)
      try expectRefused("header", header { $0["samples"] = Int.max }, .malformed)
      try expectRefused("header", header { $0["cut"] = "12" }, .malformed)
      try expectRefused("header", header { $0["kept"] = [Any]() }, .malformed)
      try expectRefused(
        "header",
        header { object in
          var moments = object["moments"] as? [[String: Any]] ?? []
          moments[0]["groups"] = Int.max
          moments[0]["length"] = Int.max
          object["moments"] = moments
        }, .malformed)
      try expectRefused(
        "header",
        header { object in
          var moments = object["moments"] as? [[String: Any]] ?? []
          moments[0]["place"] = ["node": -1, "operand": 0]
          object["moments"] = moments
        }, .malformed)
    }
  }
}

extension Converter {
  /// Everything that a file of statistics holds is read.
  fileprivate func observeEverything(
    _ graph: Graph, _ observations: Observations
  ) throws(QMError) {
    _ = try convert(graph, observations: observations)
    // Of the graph after the passes, which has a few more.
    for node in 0..<2 * graph.nodes.count {
      for operand in 1...2 {
        _ = try observations.secondMoments(of: OperandPlace(node: node, operand: operand))
      }
    }
  }
}
