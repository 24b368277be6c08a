import ArgumentParser
import QMMedia
import QMTensor

/// Options for how samples are read.
struct SampleOptions: ParsableArguments {
  @Option(
    name: .customLong("map"),
    help: ArgumentHelp(
      "The samples call an input of the network by another name; may be repeated.",
      valueName: "array=input"))
  var maps: [String] = []

  @Option(help: "Use at most this many samples, spread evenly over all.")
  var limitSamples: Int?

  @Option(
    help: ArgumentHelp(
      """
      Pictures (PNG, JPEG) are resampled to this size by a filter that averages what it leaves out, \
      as Pillow's BILINEAR. Default: the size of the network's input. These and the following options \
      are kept in the file, for qverify and qrun.
      """, valueName: "WIDTHxHEIGHT"))
  var size: String?

  @Option(
    help: ArgumentHelp(
      """
      fill: the middle of the picture in the network's aspect ratio; fit: all of it, on black; \
      stretch: all of it, distorted. Default: fill.
      """, valueName: "fill|fit|stretch"))
  var resize: String?

  @Option(
    parsing: .unconditional,
    help: ArgumentHelp(
      """
      An input of floats gets (pixel / 255 - mean) / std: one number, or one for each channel in the \
      network's order: 0.485,0.456,0.406. Default: 0.
      """, valueName: "numbers"))
  var mean: String?

  @Option(
    help: ArgumentHelp(
      "Also as a fraction: 1/255 for a network of pixels from 0 to 255. Default: 1.",
      valueName: "numbers"))
  var std: String?

  @Option(
    help: ArgumentHelp(
      "The order of the axes. Default: as the input's shape has 3 or 1 channels.",
      valueName: "nchw|nhwc"))
  var layout: String?

  @Option(
    help: ArgumentHelp(
      "The channels and their order. Default: gray for an input of one channel, else rgb.",
      valueName: "rgb|bgr|gray"))
  var channels: String?

  @Option(
    help: ArgumentHelp(
      "Frames a second of sounds (WAV), which others are refused with. Default: that of the first.",
      valueName: "Hz"))
  var sampleRate: Int?

  @Option(
    help: ArgumentHelp(
      "The columns of a table (CSV) that fill the input, by name or by index from 0. Default: all.",
      valueName: "a,b|0-3"))
  var columns: String?

  @Option(
    help: ArgumentHelp(
      "Whether the first line of a table names the columns. Default: if none of its cells is a number.",
      valueName: "yes|no"))
  var header: CSVTable.Header = .auto

  /// What is said of the preprocessing, by the name of the option.
  var preprocessing: [String: String] {
    var texts: [String: String] = [:]
    for property in Preprocessing.Property.allCases {
      texts[property.rawValue] =
        switch property {
        case .size: size
        case .resize: resize
        case .mean: mean
        case .std: std
        case .layout: layout
        case .channels: channels
        }
    }
    texts["sample-rate"] = sampleRate.map(String.init)
    texts["columns"] = columns
    if header != .auto { texts["header"] = header.rawValue }
    return texts
  }

  /// Whether no option is given.
  var isEmpty: Bool { maps.isEmpty && limitSamples == nil && preprocessing.isEmpty }

  func validate() throws {
    if let limitSamples, limitSamples < 1 {
      throw ValidationError("--limit-samples \(limitSamples): expected at least 1")
    }
    if let sampleRate, sampleRate < 1 {
      throw ValidationError("--sample-rate \(sampleRate): expected at least 1")
    }
    do throws(QMError) {
      for property in Preprocessing.Property.allCases {
        if let text = preprocessing[property.rawValue] { try property.check(text) }
      }
      if let columns { try CSVTable.check(columns: columns) }
    } catch {
      throw ValidationError("--\(error.message)")
    }
  }

  /// The inputs with the names that their arrays have.
  /// - Throws: `usage` if a mapping is not `array=input` or names no input, or one that is mapped
  ///   already.
  func named(_ inputs: [SampleInput]) throws(QMError) -> [SampleInput] {
    var inputs = inputs
    for map in maps {
      // The name of an input may contain the mark too.
      let place = map.indices.lazy.filter { map[$0] == "=" }.compactMap { mark -> (Int, String)? in
        let name = map[map.index(after: mark)...]
        guard mark != map.startIndex, let place = inputs.firstIndex(where: { $0.name == name })
        else { return nil }
        return (place, String(map[..<mark]))
      }.first
      guard let (place, array) = place else {
        throw .usage(
          "--map '\(map.abbreviated)': expected array=input with one of the inputs "
            + inputs.map(\.name).listed)
      }
      let input = inputs[place]
      guard input.arrayName == input.name else {
        throw .usage("--map names input '\(input.name.abbreviated)' twice; leave one out")
      }
      inputs[place] = SampleInput(input.name, input.type, arrayName: array)
    }
    return inputs
  }
}

extension CSVTable.Header: ExpressibleByArgument {}
