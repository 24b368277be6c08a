import QMFormat
import QMReport
import QMTensor

/// A recipe is a JSON object. A key that is left out has the default of the recipe's version.
///
///     {"version": 1, "bits": 4, "ranges": "mse", "keep_float": ["/head/.*"],
///      "bits_for": [{"nodes": "first", "bits": 8}], "thresholds": {"min_sqnr_db": 20}}
extension Recipe: Codable {
  /// Version of the keys, their meaning and their defaults.
  public static let version = 1

  private enum CodingKeys: String, CodingKey, CaseIterable {
    case version, bits, grid, effort, activations, scales, ranges, network, thresholds, prices
    case groupSize = "group_size"
    case floatNodes = "keep_float"
    case widths = "bits_for"
  }

  private enum Scales: String, Codable {
    case perChannel = "per_channel"
    case perTensor = "per_tensor"
  }

  public init(from decoder: any Decoder) throws {
    self.init()
    try Self.requireKnown(decoder, CodingKeys.allCases.map(\.rawValue))
    let values = try decoder.container(keyedBy: CodingKeys.self)
    let version = try values.decodeIfPresent(Int.self, forKey: .version) ?? Recipe.version
    guard version == Recipe.version else {
      throw QMError.unsupported(
        "a recipe of version \(version), expected version \(Recipe.version)")
    }
    if let bits = try values.decodeIfPresent(Double.self, forKey: .bits) {
      guard let width = WeightWidth(bits: bits) else {
        throw QMError.usage("bits \(bits); a weight has 1.5 to 8, 16 or 32")
      }
      weights = width
    }
    grid = try values.decodeIfPresent(Grid.self, forKey: .grid) ?? .auto
    effort = try values.decodeIfPresent(Effort.self, forKey: .effort) ?? .standard
    activations = try values.decodeIfPresent(Activations.self, forKey: .activations)
    if try values.decodeIfPresent(Scales.self, forKey: .scales) == .perTensor {
      granularity = .perTensor
    }
    if let text = try values.decodeIfPresent(String.self, forKey: .ranges) {
      guard let estimator = RangeEstimator(text) else {
        throw QMError.usage(
          "ranges '\(text.abbreviated)'; expected minmax, percentile:99.99 or mse")
      }
      rangeEstimator = estimator
    }
    groupSize = try values.decodeIfPresent(Int.self, forKey: .groupSize)
    floatNodes = try values.decodeIfPresent([NodePattern].self, forKey: .floatNodes) ?? []
    widths = try values.decodeIfPresent([WidthRule].self, forKey: .widths) ?? []
    network = try values.decodeIfPresent(Network.self, forKey: .network) ?? Network()
    thresholds = try values.decodeIfPresent(Thresholds.self, forKey: .thresholds) ?? Thresholds()
    prices = try values.decodeIfPresent(Prices.self, forKey: .prices) ?? Prices()
  }

  public func encode(to encoder: any Encoder) throws {
    var values = encoder.container(keyedBy: CodingKeys.self)
    try values.encode(Recipe.version, forKey: .version)
    try values.encode(weights.bits, forKey: .bits)
    try values.encode(grid, forKey: .grid)
    try values.encode(effort, forKey: .effort)
    try values.encodeIfPresent(activations, forKey: .activations)
    try values.encode(
      granularity == .perTensor ? Scales.perTensor : .perChannel, forKey: .scales)
    try values.encode(rangeEstimator.description, forKey: .ranges)
    try values.encodeIfPresent(groupSize, forKey: .groupSize)
    try values.encode(floatNodes, forKey: .floatNodes)
    try values.encode(widths, forKey: .widths)
    try values.encode(network, forKey: .network)
    try values.encode(thresholds, forKey: .thresholds)
    try values.encode(prices, forKey: .prices)
  }

  /// A misspelt key must be an error, or its setting would silently have no effect.
  fileprivate static func requireKnown(_ decoder: any Decoder, _ known: [String]) throws {
    let keys = try decoder.container(keyedBy: AnyKey.self).allKeys.map(\.stringValue)
    if let unknown = keys.sorted().first(where: { !known.contains($0) }) {
      throw QMError.usage(
        "unknown key '\(unknown.abbreviated)'; known are \(known.joined(separator: ", "))")
    }
  }

  // MARK: JSON

  /// Parses a recipe.
  /// - Parameter json: the bytes of a JSON object.
  /// - Throws: `usage` with the key that is unknown or has the wrong type; `unsupported` for
  ///   another version.
  public init(json: [UInt8]) throws(QMError) {
    do {
      self = try JSONDecoder().decode(Recipe.self, from: Data(json))
    } catch let error as QMError {
      throw error
    } catch let error as DecodingError {
      throw .usage("not a recipe: \(Self.text(of: error))")
    } catch {
      throw .usage("not a recipe: \(error)")
    }
  }

  /// The complete recipe as a JSON object, with its keys in alphabetical order.
  public var json: String {
    Self.text(of: self, [.sortedKeys, .prettyPrinted, .withoutEscapingSlashes])
  }

  private static func text(of value: some Encodable, _ formatting: JSONEncoder.OutputFormatting)
    -> String
  {
    let encoder = JSONEncoder()
    encoder.outputFormatting = formatting
    guard let data = try? encoder.encode(value) else { return "{}" }
    return String(decoding: data, as: UTF8.self)
  }

  private static func text(of error: DecodingError) -> String {
    func place(_ context: DecodingError.Context) -> String {
      let path = context.codingPath.map(\.stringValue).filter { !$0.isEmpty }
      return path.isEmpty ? "" : "'\(path.joined(separator: ".").abbreviated)': "
    }
    switch error {
    case .typeMismatch(_, let context), .valueNotFound(_, let context),
      .dataCorrupted(let context), .keyNotFound(_, let context):
      return place(context) + context.debugDescription
    @unknown default: return "\(error)"
    }
  }

  // MARK: In a file

  /// The keys that differ from the defaults, each with its JSON value, as a `.qm` file stores them.
  public var entries: [Program.Metadata.Entry] {
    let formatting: JSONEncoder.OutputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    func fields(_ recipe: Recipe) -> [String: any Encodable] {
      [
        "bits": recipe.weights.bits, "grid": recipe.grid, "effort": recipe.effort,
        "activations": recipe.activations,
        "scales": recipe.granularity == .perTensor ? Scales.perTensor : Scales.perChannel,
        "ranges": recipe.rangeEstimator.description, "group_size": recipe.groupSize,
        "keep_float": recipe.floatNodes, "bits_for": recipe.widths, "network": recipe.network,
        "thresholds": recipe.thresholds, "prices": recipe.prices,
      ]
    }
    let (own, defaults) = (fields(self), fields(Recipe()))
    var entries = [Program.Metadata.Entry("version", "\(Recipe.version)")]
    for key in own.keys.sorted() {
      guard let value = own[key], let known = defaults[key] else { continue }
      let text = Self.text(of: value, formatting)
      if text != Self.text(of: known, formatting) { entries.append(.init(key, text)) }
    }
    return entries
  }

  /// The recipe that a file stores.
  /// - Parameter entries: in the form of ``entries``.
  /// - Throws: as ``init(json:)``.
  public init(entries: [Program.Metadata.Entry]) throws(QMError) {
    let fields = entries.map { "\"\($0.key)\": \($0.value)" }
    try self.init(json: Array("{\(fields.joined(separator: ", "))}".utf8))
  }
}

private struct AnyKey: CodingKey {
  let stringValue: String
  var intValue: Int? { nil }
  init?(stringValue: String) { self.stringValue = stringValue }
  init?(intValue: Int) { nil }
}

extension KeyedDecodingContainer {
  /// Replaces a number if the key is there.
  /// - Throws: `usage` for a number that is not as expected.
  fileprivate func read(
    _ key: Key, _ number: inout Double, _ expected: String, _ isExpected: (Double) -> Bool
  ) throws {
    guard let given = try decodeIfPresent(Double.self, forKey: key) else { return }
    guard isExpected(given) else {
      throw QMError.usage("\(key.stringValue) is \(given), expected \(expected)")
    }
    number = given
  }
}

extension Recipe.Thresholds: Codable {
  private enum CodingKeys: String, CodingKey, CaseIterable {
    case belowPlateauDecibels = "below_plateau_db"
    case sufficientDecibels = "sufficient_db"
    case sufficientDecibelsOfLogOdds = "sufficient_log_odds_db"
    case leastDecibels = "min_sqnr_db"
  }

  public init(from decoder: any Decoder) throws {
    self.init()
    try Recipe.requireKnown(decoder, CodingKeys.allCases.map(\.rawValue))
    let values = try decoder.container(keyedBy: CodingKeys.self)
    try values.read(.belowPlateauDecibels, &belowPlateauDecibels, "a finite number") { $0.isFinite }
    try values.read(.sufficientDecibels, &sufficientDecibels, "a finite number") { $0.isFinite }
    try values.read(.sufficientDecibelsOfLogOdds, &sufficientDecibelsOfLogOdds, "a finite number") {
      $0.isFinite
    }
    if let given = try values.decodeIfPresent(Double.self, forKey: .leastDecibels) {
      leastDecibels = given
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var values = encoder.container(keyedBy: CodingKeys.self)
    try values.encode(belowPlateauDecibels, forKey: .belowPlateauDecibels)
    try values.encode(sufficientDecibels, forKey: .sufficientDecibels)
    try values.encode(sufficientDecibelsOfLogOdds, forKey: .sufficientDecibelsOfLogOdds)
    try values.encodeIfPresent(leastDecibels, forKey: .leastDecibels)
  }
}

extension Recipe.Prices: Codable {
  private enum CodingKeys: String, CodingKey, CaseIterable { case int8, dynamic, int16, float }

  public init(from decoder: any Decoder) throws {
    self.init()
    try Recipe.requireKnown(decoder, CodingKeys.allCases.map(\.rawValue))
    let values = try decoder.container(keyedBy: CodingKeys.self)
    func read(_ key: CodingKeys, _ price: inout Double) throws {
      try values.read(key, &price, "a positive number") { $0 > 0 && $0.isFinite }
    }
    try read(.int8, &int8)
    try read(.dynamic, &dynamic)
    try read(.int16, &int16)
    try read(.float, &float)
  }

  public func encode(to encoder: any Encoder) throws {
    var values = encoder.container(keyedBy: CodingKeys.self)
    try values.encode(int8, forKey: .int8)
    try values.encode(dynamic, forKey: .dynamic)
    try values.encode(int16, forKey: .int16)
    try values.encode(float, forKey: .float)
  }
}

extension Recipe.Network: Codable {
  private enum CodingKeys: String, CodingKey, CaseIterable {
    case inputs, outputs
    case settings = "set"
  }

  public init(from decoder: any Decoder) throws {
    try Recipe.requireKnown(decoder, CodingKeys.allCases.map(\.rawValue))
    let values = try decoder.container(keyedBy: CodingKeys.self)
    inputs = try values.decodeIfPresent([String].self, forKey: .inputs) ?? []
    outputs = try values.decodeIfPresent([String].self, forKey: .outputs) ?? []
    settings = try values.decodeIfPresent([String].self, forKey: .settings) ?? []
  }

  public func encode(to encoder: any Encoder) throws {
    var values = encoder.container(keyedBy: CodingKeys.self)
    try values.encode(inputs, forKey: .inputs)
    try values.encode(outputs, forKey: .outputs)
    try values.encode(settings, forKey: .settings)
  }
}

extension Recipe.WidthRule: Codable {
  private enum CodingKeys: String, CodingKey, CaseIterable { case nodes, bits }

  public init(from decoder: any Decoder) throws {
    try Recipe.requireKnown(decoder, CodingKeys.allCases.map(\.rawValue))
    let values = try decoder.container(keyedBy: CodingKeys.self)
    let bits = try values.decode(Int.self, forKey: .bits)
    guard let width = BitWidth(bits) else {
      throw QMError.usage("bits \(bits) for some nodes; a weight has 2 to 8 bits")
    }
    self.init(try values.decode(NodePattern.self, forKey: .nodes), width)
  }

  public func encode(to encoder: any Encoder) throws {
    var values = encoder.container(keyedBy: CodingKeys.self)
    try values.encode(nodes, forKey: .nodes)
    try values.encode(width.bits, forKey: .bits)
  }
}

extension NodePattern: Codable {
  public init(from decoder: any Decoder) throws {
    try self.init(decoder.singleValueContainer().decode(String.self))
  }

  public func encode(to encoder: any Encoder) throws {
    var value = encoder.singleValueContainer()
    try value.encode(text)
  }
}

extension RangeEstimator: LosslessStringConvertible {
  /// Parses the name of an estimator.
  /// - Parameter description: `minmax`, `percentile`, `percentile:99.99`, `mse`, `deviation`,
  ///   `deviation:4` or `fixed:-128:255`; nil for others.
  public init?(_ description: String) {
    switch description {
    case "minmax": self = .minMax
    case "percentile": self = .percentile(99.99)
    case "mse": self = .meanSquaredError
    case "deviation": self = .deviation(4)
    default:
      let parts = description.split(separator: ":", omittingEmptySubsequences: false)
      let numbers = parts.dropFirst().compactMap { Float($0) }
      guard numbers.count == parts.count - 1 else { return nil }
      switch (parts[0], numbers.count) {
      case ("percentile", 1) where numbers[0] > 50 && numbers[0] <= 100:
        self = .percentile(numbers[0])
      case ("deviation", 1) where numbers[0] > 0 && numbers[0] <= 1000:
        self = .deviation(numbers[0])
      case ("fixed", 2)
      where numbers[0] < numbers[1] && numbers.allSatisfy({ abs($0) <= 1e30 }):
        self = .fixed(numbers[0]...numbers[1])
      default: return nil
      }
    }
  }

  public var description: String {
    switch self {
    case .minMax: "minmax"
    case .percentile(let kept): "percentile:\(kept)"
    case .meanSquaredError: "mse"
    case .deviation(let factor): "deviation:\(factor)"
    case .fixed(let range): "fixed:\(range.lowerBound):\(range.upperBound)"
    }
  }
}
