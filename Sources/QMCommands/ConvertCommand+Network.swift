import QMFormat
import QMGraph
import QMNumPy
import QMONNX
import QMQuantization
import QMReport
import QMRuntime
import QMTensor

/// Reading and observing the network of a conversion.
extension ConvertCommand {
  func readSamples(
    of graph: Graph, _ console: Console
  ) throws(QMError) -> Samples? {
    let opened = try samples.map { (path) throws(QMError) in
      try Samples(path, for: graph, sampling)
    }
    if let remark = opened?.remark { console.note(remark) }
    try opened?.source.examine(for: graph, console)
    return opened
  }

  /// A network that was read and observed.
  struct PreparedNetwork {
    let prepared: PreparedConversion
    /// With everything that depends on the network.
    let recipe: Recipe
    let metadata: Program.Metadata
    /// Size of its file.
    let byteCount: Int
    /// The samples that were observed; nil if statistics were read from files, or without samples.
    let samples: (any SampleSource)?
    /// What probes are made of; nil if none are asked for.
    let probes: ProbeSamples?
  }

  func readPrepared(_ requested: Recipe, _ console: Console) throws(QMError) -> PreparedNetwork {
    let (graph, source) = try options.readNetwork(input, requested, console)
    let recipe = requested.resolved(for: graph, hasSamples: hasSamples)
    var metadata = try options.metadata(of: graph, recipe, source)
    let observations =
      statistics.isEmpty ? nil : try Observations(contentsOf: statistics)
    let samples = try readSamples(of: graph, console)
    metadata.entries += samples?.entries ?? observations?.entries ?? []
    let prepared = try within(.file(input)) { () throws(QMError) in
      let progress = { (phase: Conversion.Phase) in console.progress(phase) }
      let converter = options.converter(recipe, machine)
      if let observations {
        return try converter.prepare(graph, observations: observations, progress: progress)
      }
      return try converter.prepare(graph, samples: samples?.source, progress: progress)
    }
    return PreparedNetwork(
      prepared: prepared, recipe: recipe, metadata: metadata, byteCount: source.byteCount,
      samples: samples?.source,
      probes: try options.probes > 0
        ? within(.file(input)) { () throws(QMError) in
          try prepared.probeSamples(options.probes)
        } : nil)
  }

  /// What a report says of the inside of a network.
  struct Details {
    let predictions: [BudgetReport.Prediction]?
    let values: [ValueReport]?
    let weights: [WeightReport]
  }

  func details(
    of conversion: Conversion, _ file: [UInt8], _ network: PreparedNetwork, _ console: Console
  ) throws(QMError) -> Details {
    try within(.file(input)) { () throws(QMError) in
      let options = machine.modelOptions
      let values = try network.prepared.judgingSamples.map { (samples) throws(QMError) in
        try ValueComparison.reports(
          conversion.program, against: network.prepared.floatProgram, on: samples, options: options
        ) { console.progress("comparing values", done: $0, of: $1) }
      }
      let predictions =
        budget.isSearch
        ? nil
        : try network.prepared.predictions(
          from: network.recipe.weights.bits, byteCount: file.count,
          decibels: conversion.worstSignalToNoise)
      return Details(
        predictions: predictions, values: values,
        weights: try WeightReport.all(
          ofFile: file, conversion.program.constants, from: network.prepared.floatProgram))
    }
  }
}
