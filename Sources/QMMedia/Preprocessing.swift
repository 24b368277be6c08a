import QMTensor

/// How pictures become the input of a network: decoded, in gray if the network takes gray, in the
/// network's size, and then, for an input of floating-point numbers, (pixel / 255 − mean) / std for
/// each channel. An input of integers gets the pixels themselves, 0 to 255.
///
/// ```swift
/// let preprocessing = try Preprocessing(["mean": "0.5", "std": "0.5"], for: SampleInput("x", type))
/// let tensor = try preprocessing.tensor(of: Picture(path: "cat.png"))  // [1, 3, 224, 224]
/// ```
public struct Preprocessing: Hashable, Sendable {
  /// How the sides of a picture become those of the network.
  public enum Resizing: String, Hashable, Sendable, CaseIterable {
    /// The whole picture with its aspect ratio, centred on black.
    case fit
    /// The largest part from the middle of the picture that has the network's aspect ratio.
    case fill
    /// The whole picture, without its aspect ratio.
    case stretch
  }

  /// The order of the axes.
  public enum Layout: String, Hashable, Sendable, CaseIterable {
    /// Channel, row, column.
    case nchw
    /// Row, column, channel.
    case nhwc
  }

  /// The order of the channels.
  public enum Channels: String, Hashable, Sendable, CaseIterable {
    case rgb, bgr
    /// One channel, the luma.
    case gray

    /// Number of channels.
    public var count: Int { self == .gray ? 1 : 3 }
  }

  /// A property as its name and its text, as ``init(_:for:)`` takes it and ``texts`` gives it.
  public enum Property: String, Hashable, Sendable, CaseIterable {
    case size, resize, mean, std, layout, channels

    /// Checks a text by itself.
    /// - Throws: `usage`.
    public func check(_ text: String) throws(QMError) {
      switch self {
      case .size: _ = try Preprocessing.size(text)
      case .resize: _ = try Preprocessing.choice(self, text, as: Resizing.self)
      case .layout: _ = try Preprocessing.choice(self, text, as: Layout.self)
      case .channels: _ = try Preprocessing.choice(self, text, as: Channels.self)
      case .mean, .std: _ = try Preprocessing.numbers(self, text, count: nil)
      }
    }
  }

  /// Width in pixels.
  public let width: Int
  /// Height in pixels.
  public let height: Int
  /// How the size is reached.
  public let resizing: Resizing
  /// For each channel, in the network's order, in units of 1 for 255.
  public let mean: [Double]
  /// For each channel, in the network's order, in units of 1 for 255; not 0.
  public let std: [Double]
  /// The order of the axes.
  public let layout: Layout
  /// The order of the channels.
  public let channels: Channels
  /// The input's element type.
  public let elementType: ElementType

  /// Maximum width and height of what a network takes.
  private static let largestSide = 1 << 14

  /// From the texts of some properties, and from the input's type where these are missing: a fixed
  /// shape states the size, and 3 or 1 channels state the layout and whether they are RGB or gray.
  /// Otherwise `resize` is fill, `mean` 0 and `std` 1.
  /// - Parameter texts: `size`: `WIDTHxHEIGHT`; `resize`, `layout`, `channels`: the name of the case;
  ///   `mean`, `std`: one number or one for each channel, separated by commas, fractions too (`1/255`).
  /// - Throws: `usage` if a text is none of these, or is missing and the type does not state it;
  ///   `unsupported` if the input cannot be a picture.
  public init(_ texts: [Property: String], for input: SampleInput) throws(QMError) {
    guard let type = input.type, (3...4).contains(type.shape.rank) else {
      throw .unsupported(
        "input '\(input.name.abbreviated)' takes \(input.type.map { "\($0)" } ?? "anything"); "
          + "pictures need 3 axes and a batch",
        remedies: .changeModel(how: "save the numbers as the network takes them (.npy)"))
    }
    let axes = type.shape.axes.suffix(3).map(\.extent)
    func isChannels(_ extent: Int?) -> Bool { extent == 1 || extent == 3 }
    if let text = texts[.layout] {
      layout = try Preprocessing.choice(.layout, text, as: Layout.self)
    } else {
      guard isChannels(axes[0]) || isChannels(axes[2]) else {
        throw Preprocessing.missing(.layout, input)
      }
      layout = isChannels(axes[0]) ? .nchw : .nhwc
    }
    let place = layout == .nchw ? (channel: 0, row: 1, column: 2) : (channel: 2, row: 0, column: 1)
    if let text = texts[.channels] {
      channels = try Preprocessing.choice(.channels, text, as: Channels.self)
    } else {
      channels = axes[place.channel] == 1 ? .gray : .rgb
    }
    if let text = texts[.size] {
      (width, height) = try Preprocessing.size(text)
    } else {
      guard let row = axes[place.row], let column = axes[place.column],
        max(row, column) <= Preprocessing.largestSide
      else { throw Preprocessing.missing(.size, input) }
      (width, height) = (column, row)
    }
    resizing =
      try texts[.resize].map { (text) throws(QMError) in
        try Preprocessing.choice(.resize, text, as: Resizing.self)
      } ?? .fill
    elementType = type.elementType
    let isNormalized = elementType.isFloatingPoint
    if !isNormalized, texts[.mean] ?? texts[.std] != nil {
      throw .usage(
        "input '\(input.name.abbreviated)' takes \(elementType), which holds no normalized pixels; "
          + "leave out mean and std")
    }
    mean = try Preprocessing.numbers(.mean, texts[.mean] ?? "0", count: channels.count)
    std = try Preprocessing.numbers(.std, texts[.std] ?? "1", count: channels.count)
  }

  /// The texts from which ``init(_:for:)`` makes the same value: to be kept beside a network.
  public var texts: [(property: Property, text: String)] {
    func list(_ numbers: [Double]) -> String { numbers.map { "\($0)" }.joined(separator: ",") }
    let normalization: [(Property, String)] =
      elementType.isFloatingPoint ? [(.mean, list(mean)), (.std, list(std))] : []
    return [(.size, "\(width)x\(height)"), (.resize, resizing.rawValue)] + normalization
      + [(.layout, layout.rawValue), (.channels, channels.rawValue)]
  }

  /// The input that a network gets for a picture, with a batch of 1.
  /// - Throws: `outOfMemory`; `invalidInput` if the input's integers cannot hold 0 to 255.
  public func tensor(of picture: Picture) throws(QMError) -> Tensor {
    let picture = try (channels == .gray ? picture.gray() : picture)
      .resized(width: width, height: height, resizing)
    let shape =
      layout == .nchw
      ? [1, channels.count, height, width] : [1, height, width, channels.count]
    guard elementType.isFloatingPoint else {
      return try filled(shape, from: picture) { code, _ in code }.converted(to: elementType)
    }
    let values = (0..<channels.count).map { channel in
      (0..<256).map { Float((Double($0) / 255 - mean[channel]) / std[channel]) }
    }
    return try filled(shape, from: picture) { code, channel in values[channel][Int(code)] }
      .converted(to: elementType)
  }

  /// The pixels in the order of the network.
  private func filled<Element: TensorElement>(
    _ shape: [Int], from picture: Picture, _ value: (UInt8, _ channel: Int) -> Element
  ) throws(QMError) -> Tensor {
    let (count, area) = (channels.count, width * height)
    return try Tensor(shape, as: Element.self) { elements in
      for channel in 0..<count {
        // Gray pictures have one channel for all of the network's.
        let own = picture.channelCount == 1 ? 0 : channels == .bgr ? 2 - channel : channel
        for place in 0..<area {
          let to = layout == .nchw ? channel * area + place : place * count + channel
          elements[to] = value(picture.bytes[place * picture.channelCount + own], channel)
        }
      }
      withExtendedLifetime(picture) {}
    }
  }

  // MARK: Texts

  private static func missing(_ property: Property, _ input: SampleInput) -> QMError {
    .usage(
      "the \(property.rawValue) of pictures for input '\(input.name.abbreviated)' is not known: "
        + "it takes \(input.type.map { "\($0)" } ?? "anything")",
      remedies: .statePreprocessing(property.rawValue))
  }

  private static func size(_ text: String) throws(QMError) -> (width: Int, height: Int) {
    let sides = text.split(separator: "x", omittingEmptySubsequences: false).map { Int($0) }
    guard sides.count == 2, let width = sides[0], let height = sides[1],
      (1...largestSide).contains(width), (1...largestSide).contains(height)
    else {
      throw .usage(
        "size '\(text.abbreviated)': expected WIDTHxHEIGHT, such as 224x224, each 1 to \(largestSide)"
      )
    }
    return (width, height)
  }

  private static func choice<Choice: RawRepresentable<String> & CaseIterable>(
    _ property: Property, _ text: String, as: Choice.Type
  ) throws(QMError) -> Choice {
    guard let choice = Choice(rawValue: text) else {
      throw .usage(
        "\(property.rawValue) '\(text.abbreviated)': expected "
          + Choice.allCases.map(\.rawValue).joined(separator: ", "))
    }
    return choice
  }

  /// - Parameter count: nil means 1 or 3.
  private static func numbers(
    _ property: Property, _ text: String, count: Int?
  ) throws(QMError) -> [Double] {
    let numbers = text.split(separator: ",", omittingEmptySubsequences: false).map { part in
      let terms = part.split(separator: "/", omittingEmptySubsequences: false).map { Double($0) }
      guard terms.count <= 2, let number = terms[0] else { return Double.nan }
      return terms.count == 1 ? number : number / (terms[1] ?? .nan)
    }
    let isCounted = numbers.count == 1 || numbers.count == count ?? 3
    guard isCounted, numbers.allSatisfy({ $0.isFinite && ($0 != 0 || property == .mean) }) else {
      let counted = count == 1 ? "one number" : "one number or three"
      throw .usage(
        "\(property.rawValue) '\(text.abbreviated)': expected \(counted), separated by commas"
          + (property == .std ? ", not 0" : ""))
    }
    return numbers.count == count ?? numbers.count
      ? numbers : [Double](repeating: numbers[0], count: count ?? 1)
  }
}
