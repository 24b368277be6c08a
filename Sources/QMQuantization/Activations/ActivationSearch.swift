import QMFormat
import QMGraph
import QMReport
import QMRuntime
import QMTensor

/// Chooses the type of every point of a network: the cheapest choice whose outputs come close to
/// those that the rounded weights allow.
///
/// 1. The *plateau* is the error W of the program with rounded weights and float activations,
///    against the float network.
/// 2. The contribution C of each point is the error that rounding this point alone adds to the
///    plateau's outputs.
/// 3. Starting with the cheapest types, points are upgraded one after the other, always the one with
///    the largest mean of ln((S + W) / (S − ΔC + W)) per extra price; S is the sum of all C, the
///    mean is over samples and parts of outputs. The sums only order the upgrades: errors may be
///    collinear, or clipped by what follows.
/// 4. Bisection over the path of upgrades finds the cheapest program whose error, measured in whole,
///    is within the tolerance of the plateau, in the median over the samples and in the mean of the
///    decibels: where samples fare unlike, a median tells of half of them only. The tolerance is half
///    as large if ranges were fitted to the samples that choose, because those flatter fixed ranges.
/// 5. The program is compared with those that have one type everywhere. With the effort
///    ``Recipe/Effort/fast``, there are only those.
/// 6. If the choice misses the tolerance on all samples that nothing was fitted to, the candidates
///    are compared on these: the few that choose may be all of one kind.
struct ActivationSearch {
  /// A choice of types, measured in whole.
  struct Candidate {
    let name: String
    let types: [ActivationType]
    let price: Double
    let errors: OutputErrors
    /// The decibels by which the errors of the worst part exceed those of the plateau.
    let loss: Double
    /// Whether the loss is within the tolerance.
    let isReached: Bool
  }

  /// The result of a search.
  struct Outcome {
    let candidates: [Candidate]
    /// Index of the candidate that the file holds.
    let chosen: Int
    /// Errors of the rounded weights with float activations.
    let plateau: OutputErrors
    /// Price of float activations.
    let dearestPrice: Double
    /// Worst error of an output if only this point is int8, for the points that became float.
    let contributions: [Int: Double]
  }

  private let state: ConversionState
  private let reference: ReferenceRuns
  private let points: ActivationPoints
  private let thresholds: Recipe.Thresholds
  private let effort: Recipe.Effort

  /// Errors below this share of what the tolerance leaves are not worth an upgrade.
  private static let negligible = 0.02
  /// Added to all errors in sums, so that the order of upgrades depends on nothing below 50 dB.
  private static let floor = 1e-5

  /// The share of the tolerance where the samples that choose are those that fit.
  private static let shareOnFittedSamples = 0.5

  init(_ state: ConversionState, _ reference: ReferenceRuns, _ points: ActivationPoints) {
    self.state = state
    self.reference = reference
    self.points = points
    thresholds = state.recipe.thresholds
    effort = state.recipe.effort
  }

  /// - Parameter progress: called with the number of tests that are done.
  func run(progress: (Conversion.Phase) -> Void) throws(QMError) -> Outcome {
    var float = state.plan
    float.activations = [:]
    let base = try state.graph.inserting(float).flattened().program
    var baseline = try Baseline(plateau: base, at: reference.roles.choosing, of: self)
    var candidates = [
      try candidate(
        points.points.contains { $0.types[0] == .int8 } ? "int8" : "dynamic", points.cheapest,
        baseline)
    ]
    var contributions: [Int: Double] = [:]
    if !candidates[0].isReached {
      if effort.measuresSingleRoundings {
        let measured = try self.contributions(over: base, baseline, progress)
        let path = path(measured, baseline.plateau.flat(samples: measured.sampleCount))
        candidates += try bisect(path) { types throws(QMError) in
          try candidate("search", types, baseline)
        }
        for point in points.points.indices {
          contributions[point] = measured.errors[point][points.cheapest[point]]?.max()
        }
      }
      for (name, types) in uniform {
        candidates.append(try candidate(name, types, baseline))
      }
    }
    var chosen = best(of: candidates)
    if reference.roles.reserved.count > baseline.places.count {
      let all = try Baseline(plateau: base, at: reference.roles.reserved, of: self)
      let checked = try candidate(candidates[chosen].name, candidates[chosen].types, all)
      if !checked.isReached {
        if candidates.count == 1 {
          candidates += try uniform.map { name, types throws(QMError) in
            try candidate(name, types, all)
          }
        }
        candidates = try candidates.map { old throws(QMError) in
          try candidate(old.name, old.types, all)
        }
        (baseline, chosen) = (all, best(of: candidates))
      }
    }
    return Outcome(
      candidates: candidates, chosen: chosen, plateau: baseline.plateau,
      dearestPrice: points.price(points.points.map { _ in .float }), contributions: contributions)
  }

  /// What programs are measured by.
  private struct Baseline {
    /// Places of the samples.
    let places: Range<Int>
    /// Errors of the rounded weights with float activations.
    let plateau: OutputErrors
    /// How far errors may exceed the plateau, in decibels.
    let tolerance: Double
    /// For each part of the outputs the error below which all errors count alike.
    let sufficient: [Double]

    init(plateau base: Program, at places: Range<Int>, of search: ActivationSearch) throws(QMError)
    {
      self.places = places
      plateau = try search.reference.errors(of: base, at: places)
      let share =
        search.reference.roles.areAllOne && !search.reference.areMade
        ? min(search.effort.shareOfTolerance, ActivationSearch.shareOnFittedSamples)
        : search.effort.shareOfTolerance
      let thresholds = search.thresholds
      let tolerance = thresholds.belowPlateauDecibels * share
      self.tolerance = tolerance
      sufficient = plateau.areLogOdds.map { areLogOdds in
        Comparison.ratio(
          ofDecibels: -tolerance
            - (areLogOdds ? thresholds.sufficientDecibelsOfLogOdds : thresholds.sufficientDecibels))
      }
    }
  }

  private func candidate(
    _ name: String, _ types: [ActivationType], _ baseline: Baseline
  ) throws(QMError) -> Candidate {
    let errors = try reference.errors(
      of: program(types), at: baseline.places, like: baseline.plateau)
    let loss = errors.decibels(over: baseline.plateau, sufficient: baseline.sufficient)
    return Candidate(
      name: name, types: types, price: points.price(types), errors: errors,
      loss: loss.max() ?? 0, isReached: (loss.max() ?? 0) <= baseline.tolerance)
  }

  private func best(of candidates: [Candidate]) -> Int {
    candidates.indices.reduce(0) {
      isBetter(candidates[$1], than: candidates[$0]) ? $1 : $0
    }
  }

  private func isBetter(_ candidate: Candidate, than other: Candidate) -> Bool {
    if candidate.isReached != other.isReached { return candidate.isReached }
    if candidate.isReached { return candidate.price < other.price }
    return candidate.loss < other.loss
  }

  /// Choices other than the cheapest with one type for all points that can have it; for others
  /// float32, or the type of ``Recipe/Activations/dynamic``.
  private var uniform: [(name: String, types: [ActivationType])] {
    [ActivationType.dynamic, .int16].map { type in
      let types = points.points.map { point in
        [type, .dynamic, .float].first(where: point.types.contains) ?? .float
      }
      return ("\(type)", types)
    }.filter { $0.types != points.cheapest }
  }

  private func program(_ types: [ActivationType]) throws(QMError) -> Program {
    try state.graph.inserting(points.plan(types, from: state.plan)).lowered().flattened().program
  }

  // MARK: Contributions

  /// Errors of single points, each an array over parts and samples.
  private struct Contributions {
    let sampleCount: Int
    var errors: [[ActivationType: [Double]]]
  }

  private func contributions(
    over base: Program, _ baseline: Baseline, _ progress: (Conversion.Phase) -> Void
  ) throws(QMError) -> Contributions {
    let points = points.points
    let (places, plateau) = (baseline.places, baseline.plateau)
    let sampleCount = max(
      1, min(places.count, effort.runsOfContributions / max(2 * points.count, 1)))
    var result = Contributions(
      sampleCount: sampleCount, errors: points.map { _ in [.float: []] })
    let errors = plateau.flat(samples: sampleCount)
    let targets = zip(errors, plateau.flat(baseline.sufficient, samples: sampleCount)).map {
      max($0, $1) * Comparison.ratio(ofDecibels: baseline.tolerance)
    }
    for index in points.indices {
      result.errors[index][.float] = [Double](repeating: 0, count: targets.count)
    }
    func measure(_ tests: [(point: Int, type: ActivationType)]) throws(QMError) {
      let comparisons = try reference.compare(
        tests.count, over: base, at: places.prefix(sampleCount),
        program: { test throws(QMError) in
          let plan = self.points.plan(of: tests[test].point, as: tests[test].type, from: state.plan)
          return try state.graph.inserting(plan).flattened().program
        }, progress: progress)
      for (test, comparison) in zip(tests, comparisons) {
        result.errors[test.point][test.type] =
          OutputErrors(comparison, like: plateau).flat(samples: sampleCount)
      }
    }
    try measure(points.indices.map { ($0, points[$0].types[0]) })
    // What would never be upgraded is not measured as another type.
    let relevant = points.indices.filter { index in
      let errors = result.errors[index][points[index].types[0]] ?? []
      return zip(errors, targets).contains {
        $0 > $1 * ActivationSearch.negligible / Double(points.count)
      }
    }
    var tests: [(point: Int, type: ActivationType)] = []
    for index in relevant {
      let point = points[index]
      for type in point.types.dropFirst() {
        switch type {
        case .dynamic: tests.append((index, type))
        case .int16 where point.isBeforeSteepFunction: tests.append((index, type))
        case .int16:
          result.errors[index][type] = scaled(result.errors[index][.int8] ?? [], point)
        case .int8, .float: break
        }
      }
    }
    try measure(tests)
    return result
  }

  /// The errors of int16 codes from those of int8: the power of the error grows with the square of
  /// the step, except where a steep function magnifies small numbers.
  private func scaled(_ errors: [Double], _ point: ActivationPoint) -> [Double] {
    guard let int8 = point.parameters[.int8], let int16 = point.parameters[.int16] else {
      return errors
    }
    let ratio = Double(int16.scale) / Double(int8.scale)
    return errors.map { $0 * ratio * ratio }
  }

  // MARK: The path

  /// The types after each upgrade, in their order.
  private func path(_ contributions: Contributions, _ plateau: [Double]) -> [[ActivationType]] {
    var types = points.cheapest
    let weights = plateau.map { $0 + ActivationSearch.floor }
    var sum = [Double](repeating: 0, count: weights.count)
    for (errors, type) in zip(contributions.errors, types) {
      for (index, error) in (errors[type] ?? []).enumerated() { sum[index] += error }
    }
    var path: [[ActivationType]] = []
    while true {
      var best: (point: Int, type: ActivationType, value: Double)?
      for (index, point) in points.points.enumerated() {
        let errors = contributions.errors[index]
        guard let present = errors[types[index]],
          let place = point.types.firstIndex(of: types[index])
        else { continue }
        for type in point.types.dropFirst(place + 1) {
          guard let new = errors[type] else { continue }
          let gain = gain(sum, weights, from: present, to: new)
          guard gain > 0 else { continue }
          let price = points.extraPrice(of: index, as: type, types)
          let value = gain / max(price, 1)
          if value > best?.value ?? 0 { best = (index, type, value) }
        }
      }
      guard let best, let old = contributions.errors[best.point][types[best.point]],
        let new = contributions.errors[best.point][best.type]
      else { return path }
      for index in sum.indices { sum[index] = max(0, sum[index] - old[index] + new[index]) }
      types[best.point] = best.type
      path.append(types)
    }
  }

  /// Mean of ln((S + W) / (S − ΔC + W)).
  private func gain(
    _ sum: [Double], _ weights: [Double], from old: [Double], to new: [Double]
  ) -> Double {
    var logarithm = 0.0
    var product = 1.0
    for index in sum.indices {
      let before = sum[index] + weights[index]
      let after = max(0, sum[index] - old[index] + new[index]) + weights[index]
      product *= before / after
      // A ratio is within 2^±40, so that 16 of them stay far from the ends of the exponents.
      if index % 16 == 15 {
        logarithm += naturalLogarithm(product)
        product = 1
      }
    }
    return (logarithm + naturalLogarithm(product)) / Double(max(sum.count, 1))
  }

  /// Measures whole programs along a path of upgrades, until the first that reaches the target is
  /// found.
  private func bisect(
    _ path: [[ActivationType]], measure: ([ActivationType]) throws(QMError) -> Candidate
  ) throws(QMError) -> [Candidate] {
    var candidates: [Candidate] = []
    // Upgrades below `low` do not suffice, those up to `high` do, or nothing does.
    var (low, high) = (0, path.count)
    while high - low > 1, candidates.count < effort.probes {
      let middle = (low + high) / 2
      let candidate = try measure(path[middle - 1])
      candidates.append(candidate)
      if candidate.isReached { high = middle } else { low = middle }
    }
    if high == path.count, let last = path.last { candidates.append(try measure(last)) }
    return candidates
  }
}

extension Conversion.Alternative {
  /// The choices that a search measured, without the steps of the bisection.
  static func all(of outcome: ActivationSearch.Outcome) -> [Conversion.Alternative] {
    func decibels(_ errors: OutputErrors) -> Double {
      -Comparison.decibels(errors.medians.max() ?? 0)
    }
    let plateau = Conversion.Alternative(
      name: "float", signalToNoiseDecibels: decibels(outcome.plateau), price: outcome.dearestPrice,
      isChosen: false)
    var alternatives = [plateau]
    for (index, candidate) in outcome.candidates.enumerated()
    where candidate.name != "search" || index == outcome.chosen {
      alternatives.append(
        .init(
          name: candidate.name, signalToNoiseDecibels: decibels(candidate.errors),
          price: candidate.price, isChosen: index == outcome.chosen))
    }
    return alternatives
  }
}
