import QMFormat
import QMGraph
import QMMedia
import QMNumPy
import QMONNX
import QMRuntime
import QMSafetensors
import QMTensor

/// Samples in any of their forms: a folder of `.npy`, `.npz` or `.safetensors` files, ONNX's `input_0.pb`, one file
/// (`.npz`, `.npy`, `.safetensors`) whose arrays have the samples along their first axis, pictures,
/// sounds, or the rows of a table.
struct Samples {
  let source: any SampleSource
  /// How they were made what the network takes, by the name of the option.
  private let preprocessing: [(option: String, text: String)]
  private let kind: Kind

  private enum Kind {
    case arrays, table
    case media(MediaFolder.Kind)

    init(of path: String) throws(QMError) {
      if let kind = try MediaFolder.kind(of: path) {
        self = .media(kind)
      } else {
        self = path.lowercased().hasSuffix(".csv") && !Folder.exists(path) ? .table : .arrays
      }
    }

    /// In messages.
    var name: String {
      switch self {
      case .arrays: "arrays"
      case .table: "rows of a table"
      case .media(.pictures): "pictures"
      case .media(.sounds): "sounds"
      }
    }

    /// The options that say how to preprocess.
    var options: [String] {
      switch self {
      case .arrays: []
      case .table: ["columns", "header"]
      case .media(.pictures): Preprocessing.Property.allCases.map(\.rawValue)
      case .media(.sounds): ["sample-rate"]
      }
    }
  }

  /// - Parameters:
  ///   - inputs: all inputs of the network.
  ///   - outputs: names of all outputs of the network.
  ///   - metadata: of the network's file, which may say how to preprocess; options say it first.
  init(
    _ path: String, inputs: [SampleInput], outputs: [String], metadata: Program.Metadata,
    _ options: SampleOptions
  ) throws(QMError) {
    let kind = try Kind(of: path)
    let inputs = try options.named(inputs)
    let texts = try within(.file(path)) { () throws(QMError) in
      try Samples.texts(kind, inputs, metadata, options)
    }
    var preprocessing: [(option: String, text: String)] = []
    func open(_ inputs: [SampleInput]) throws(QMError) -> any SampleSource {
      let all: any SampleSource
      switch kind {
      case .arrays:
        all = try Samples.arrays(path, inputs, outputs, isMapped: !options.maps.isEmpty)
      case .table:
        all = try CSVSamples(
          path: path, input: inputs[0], outputs: outputs, header: options.header,
          columns: texts["columns"])
        preprocessing = texts["columns"].map { [("columns", $0)] } ?? []
      case .media(.pictures):
        let properties = texts.compactMap { text in
          Preprocessing.Property(rawValue: text.key).map { ($0, text.value) }
        }
        let own = try within(.file(path)) { () throws(QMError) in
          try Preprocessing(Dictionary(uniqueKeysWithValues: properties), for: inputs[0])
        }
        all = try MediaFolder(.pictures, path: path, input: inputs[0], outputs: outputs) {
          (path) throws(QMError) in try own.tensor(of: Picture(path: path))
        }
        preprocessing = own.texts.map { ($0.property.rawValue, $0.text) }
      case .media(.sounds):
        let stated = texts["sample-rate"].flatMap { Int($0) }
        let (rate, folder) = try Samples.sounds(path, inputs[0], outputs, rate: stated)
        all = folder
        preprocessing = [("sample-rate", "\(rate)")]
      }
      return options.limitSamples.map { all.evenly(limit: $0) } ?? all
    }
    if let batches = try SampleBatches(of: inputs, open: open) {
      source = batches
    } else {
      source = try open(inputs)
    }
    self.preprocessing = preprocessing
    self.kind = kind
  }

  init(
    _ path: String, for graph: Graph, _ options: SampleOptions
  ) throws(QMError) {
    try self.init(
      path, inputs: graph.inputs.map { SampleInput(graph[$0].name, graph[$0].type) },
      outputs: graph.outputs.map(\.name), metadata: .init(), options)
  }

  init(
    _ path: String, for program: Program, _ options: SampleOptions
  ) throws(QMError) {
    let inputs = program.inputs.map {
      SampleInput(program.values[$0].name, program.values[$0].type)
    }
    try self.init(
      path, inputs: inputs, outputs: program.outputs.map(\.name), metadata: program.metadata,
      options)
  }

  init(
    _ path: String, for signature: Model.Signature, _ options: SampleOptions
  ) throws(QMError) {
    try self.init(
      path, inputs: signature.inputs.map { SampleInput($0.name, $0.type) },
      outputs: signature.outputs.map(\.name), metadata: signature.metadata, options)
  }

  // MARK: Arrays

  private static func arrays(
    _ path: String, _ inputs: [SampleInput], _ outputs: [String], isMapped: Bool
  ) throws(QMError) -> any SampleSource {
    guard Folder.exists(path) || !CheckpointFile.isOne(path) && CheckpointFile.kind(of: path) == nil
    else {
      return try SampleArchive(
        CheckpointFile.open(path), path: path, inputs: inputs, outputs: outputs)
    }
    guard let samples = ProtobufSamples(path: path, inputs: inputs, outputs: outputs) else {
      return try SampleFolder(
        path: path, inputs: inputs, outputs: outputs, formats: [SafetensorsFile.self])
    }
    guard !isMapped else {
      throw QMError.usage("samples in ONNX's form are numbered, not named; leave --map out")
        .within(.file(path))
    }
    return samples
  }

  private static func sounds(
    _ path: String, _ input: SampleInput, _ outputs: [String], rate stated: Int?
  ) throws(QMError) -> (rate: Int, MediaFolder) {
    func folder(rate: Int?) throws(QMError) -> MediaFolder {
      try MediaFolder(.sounds, path: path, input: input, outputs: outputs) {
        (path) throws(QMError) in
        let sound = try Sound(path: path)
        return try within(.file(path)) { () throws(QMError) in
          try sound.tensor(for: input, rate: rate)
        }
      }
    }
    if let stated { return (stated, try folder(rate: stated)) }
    let rate = try Sound(path: folder(rate: nil).path(of: 0)).rate
    return (rate, try folder(rate: rate))
  }

  // MARK: Preprocessing

  /// Begins the keys of the metadata's entries that say how samples are preprocessed; what follows is
  /// the name of the option.
  private static let keyPrefix = "preprocessing "

  /// What the metadata of a converted file keeps, so that the file's user does the same.
  var entries: [Program.Metadata.Entry] {
    preprocessing.map { .init(Samples.keyPrefix + $0.option, $0.text) }
  }

  /// What was done to the samples, for people; nil if nothing was.
  var remark: String? {
    guard !preprocessing.isEmpty else { return nil }
    let texts = preprocessing.map { "\($0.option) \($0.text)" }
    return "\(kind.name) are read with " + texts.joined(separator: ", ")
  }

  /// What the options and, without them, the metadata say of the preprocessing.
  /// - Throws: `usage` for options of other samples.
  private static func texts(
    _ kind: Kind, _ inputs: [SampleInput], _ metadata: Program.Metadata, _ options: SampleOptions
  ) throws(QMError) -> [String: String] {
    let given = options.preprocessing
    if let other = given.keys.filter({ !kind.options.contains($0) }).min() {
      throw .usage("--\(other) says nothing about \(kind.name); leave it out")
    }
    if case .arrays = kind { return [:] }
    guard options.maps.isEmpty else {
      throw .usage("\(kind.name) feed the only input; leave --map out")
    }
    guard inputs.count == 1 else {
      throw .unsupported(
        "\(kind.name) cannot feed a network of \(inputs.count) inputs",
        remedies: .changeModel(how: "save all inputs of a sample as arrays (.npz)"))
    }
    var texts: [String: String] = [:]
    for option in kind.options {
      texts[option] =
        given[option] ?? metadata.entries.first { $0.key == keyPrefix + option }?.value
    }
    return texts
  }
}
