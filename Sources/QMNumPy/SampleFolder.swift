import QMTensor

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

/// The key of an input or output in file names: `name` with every character other than
/// `A–Z a–z 0–9 _` replaced by `_`.
public func sampleKey(for name: String) -> String {
  String(
    String.UnicodeScalarView(
      name.unicodeScalars.map { scalar in
        switch scalar {
        case "A"..."Z", "a"..."z", "0"..."9", "_": scalar
        default: "_"
        }
      }))
}

/// A folder of samples, loaded one at a time.
///
/// Each sample has a name, its *stem*. Its inputs are in
/// - `<stem>.npy` if the model has one input (`<stem>.<key>.npy` works too),
/// - `<stem>.<key>.npy`, one file per input, if it has several (see ``sampleKey(for:)``), or
/// - `<stem>.npz`, whose arrays are named after the inputs or their keys, or a file of another format of
///   named arrays.
///
/// Expected outputs are in `<stem>.<key>.npy`, or in the `.npz`. Files that begin with a dot, or
/// have another extension or an unknown key, are ignored.
///
/// ```swift
/// let samples = try SampleFolder(
///   path: "calib", inputs: [SampleInput("x", ValueType(.float32, [1, 3, 224, 224]))])
/// for index in 0..<samples.count {
///   print(samples.name(of: index), try samples.inputs(of: index)["x"]!)
/// }
/// ```
public struct SampleFolder: SampleSource {
  /// Path of the folder.
  public let path: String
  /// The stems of all samples, sorted by their UTF-8 bytes.
  public let stems: [String]
  private let inputs: [SampleInput]
  private let outputs: [String]
  private let files: [String: Files]
  private let limits: NumPyLimits
  private let formats: [any CheckpointReader.Type]

  /// The file names of one sample.
  private struct Files: Sendable {
    var archive: String?
    /// The `.npy` file of each key.
    var arrays: [String: String] = [:]
  }

  /// Lists the samples of a folder; it does not read arrays yet.
  /// - Parameters:
  ///   - inputs: all inputs of the model.
  ///   - outputs: names of the outputs whose expected values to read, where the folder has them.
  ///   - formats: formats, besides `.npz`, of which a file holds all arrays of a sample.
  /// - Throws: `cannotOpen`; `invalidInput` if there is no sample, or if a sample lacks an input or
  ///   has it twice; `unsupported` if two inputs or outputs have the same key.
  public init(
    path: String, inputs: [SampleInput], outputs: [String] = [],
    formats: [any CheckpointReader.Type] = [], limits: NumPyLimits = .standard
  ) throws(QMError) {
    self.path = path
    self.formats = formats
    self.inputs = inputs
    self.outputs = outputs
    self.limits = limits
    files = try within(.file(path)) { () throws(QMError) -> [String: Files] in
      let endings = [NPZArchive.fileNameEnding] + formats.map { $0.fileNameEnding }
      let names = try SampleFolder.list(path, endings)
      let files = try SampleFolder.group(names, inputs.map(\.arrayName), outputs, endings)
      guard !files.isEmpty else {
        let expected =
          inputs.count == 1
          ? "<name>.npy"
          : inputs.map { "<name>.\(sampleKey(for: $0.arrayName)).npy" }.joined(separator: ", ")
        if let other = SampleFolder.otherFile(in: path) { throw other }
        throw .invalidInput(
          "no samples among \(names.count) files; expected \(expected) or "
            + endings.map { "<name>" + $0 }.joined(separator: " or "))
      }
      return files
    }
    stems = files.keys.sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
  }

  /// Number of samples.
  public var count: Int { stems.count }

  /// The stem of a sample.
  public func name(of index: Int) -> String { stems[index] }

  /// Loads the inputs of one sample.
  /// - Throws: as ``NPY/read(path:limits:check:)`` and ``NPZArchive``; `invalidInput` if an array
  ///   is missing in an archive, has a shape that does not fit the model, or
  ///   contains numbers that are not finite or that the input's element type cannot hold. The path
  ///   of the file is the context.
  public func inputs(of index: Int) throws(QMError) -> [String: Tensor] {
    let files = files[stems[index]]!
    let archive = try archive(of: files)
    var tensors: [String: Tensor] = [:]
    for input in inputs {
      tensors[input.name] = try load(input, of: files, archive)
    }
    return tensors
  }

  /// Loads the expected outputs of one sample, as far as it has them, without converting them.
  /// - Throws: as ``NPY/read(path:limits:check:)`` and ``NPZArchive``, with the path of the file.
  public func expectedOutputs(of index: Int) throws(QMError) -> [String: Tensor] {
    let files = files[stems[index]]!
    let archive = try archive(of: files)
    var expected: [String: Tensor] = [:]
    for output in outputs {
      let key = sampleKey(for: output)
      if let file = files.arrays[key] {
        expected[output] = try NPY.read(path: filePath(file), limits: limits)
      } else if let archive, let name = [output, key].first(where: archive.names.contains) {
        expected[output] = try archive.tensor(named: name)
      }
    }
    return expected
  }

  private func archive(of files: Files) throws(QMError) -> (any CheckpointReader)? {
    guard let name = files.archive else { return nil }
    if let format = formats.first(where: { name.hasSuffix($0.fileNameEnding) }) {
      return try format.open(filePath(name))
    }
    return try NPZArchive(path: filePath(name), limits: limits)
  }

  private func load(_ input: SampleInput, of files: Files, _ archive: (any CheckpointReader)?)
    throws(QMError) -> Tensor
  {
    let key = sampleKey(for: input.arrayName)
    if let archive {
      let name = [input.arrayName, key].first(where: archive.names.contains) ?? input.arrayName
      let array = try archive.tensor(named: name)
      return try within(.file(filePath(files.archive!))) { () throws(QMError) -> Tensor in
        try within(.entry(name)) { () throws(QMError) in try input.tensor(from: array) }
      }
    }
    let file = filePath(files.arrays[key]!)
    let array = try NPY.read(path: file, limits: limits) { (header) throws(QMError) in
      try input.check(header.shape)
    }
    return try within(.file(file)) { () throws(QMError) in try input.tensor(from: array) }
  }

  private func filePath(_ name: String) -> String {
    Folder.path(path, name)
  }

  // MARK: Names

  /// The error for the first file that is of a known format, but not of NumPy's.
  private static func otherFile(in path: String) -> QMError? {
    let names = (try? Folder.names(in: path, expected: "")) ?? []
    for name in names.sorted().prefix(64) {
      guard let file = try? OpenFile(path: Folder.path(path, name)),
        let start = try? file.bytes(0..<min(file.count, 64)),
        let kind = withExtendedLifetime(start, { FileKind(start.bytes) }), kind != .npy,
        kind != .npz
      else { continue }
      return kind.refusal(expected: "samples (.npy or .npz)").within(.file(name))
    }
    return nil
  }

  /// Names of all `.npy` files in the folder, and of the files with the endings of archives.
  private static func list(_ path: String, _ endings: [String]) throws(QMError) -> [String] {
    try Folder.names(in: path, expected: "expected a folder of .npy or .npz files")
      .filter { $0.hasSuffix(".npy") || archiveStem(of: $0, endings) != nil }
  }

  /// The name without its ending; nil unless it is that of an archive.
  private static func archiveStem(of name: String, _ endings: [String]) -> String? {
    endings.first(where: name.hasSuffix).map { String(name.dropLast($0.count)) }
  }

  /// Sorts file names into samples, by stem.
  private static func group(
    _ names: [String], _ inputs: [String], _ outputs: [String], _ endings: [String]
  ) throws(QMError) -> [String: Files] {
    let arrays = names.filter { $0.hasSuffix(".npy") }.map { String($0.dropLast(4)) }
    if !arrays.isEmpty { try requireDistinctKeys(inputs + outputs) }
    let inputKeys = inputs.map(sampleKey(for:))
    let outputKeys = Set(outputs.map(sampleKey(for:)))
    let bases = Set(arrays + names.compactMap { archiveStem(of: $0, endings) })

    var files: [String: Files] = [:]
    var expected: [(stem: String, key: String, file: String)] = []
    for base in arrays {
      let file = base + ".npy"
      var stem = base
      var key = inputKeys.first ?? ""
      if let split = splitKey(base) {
        let isOutput =
          outputKeys.contains(split.key)
          && (inputKeys.count > 1 || bases.contains(split.stem)
            || bases.contains(split.stem + "." + key))
        if inputKeys.contains(split.key) {
          (stem, key) = split
        } else if isOutput {
          expected.append((split.stem, split.key, file))
          continue
        } else if inputKeys.count > 1 {
          continue
        }
      } else if inputKeys.count > 1 {
        continue
      }
      if let other = files[stem, default: Files()].arrays.updateValue(file, forKey: key) {
        throw .invalidInput("\(other) and \(file) are the same input of a sample; remove one")
          .within(.sample(stem))
      }
    }
    for name in names {
      guard let stem = archiveStem(of: name, endings) else { continue }
      if let array = files[stem]?.archive ?? files[stem]?.arrays.values.min() {
        throw QMError.invalidInput(
          "\(name) and \(array) both hold inputs of this sample; remove one"
        )
        .within(.sample(stem))
      }
      files[stem] = Files(archive: name)
    }
    for (stem, found) in files.sorted(by: { $0.key < $1.key }) where found.archive == nil {
      for (input, key) in zip(inputs, inputKeys) where found.arrays[key] == nil {
        throw QMError.invalidInput(
          "input '\(input.abbreviated)' is missing; expected in \(stem).\(key).npy"
        ).within(.sample(stem))
      }
    }
    for (stem, key, file) in expected where files[stem] != nil {
      files[stem]!.arrays[key] = file
    }
    return files
  }

  /// Splits a file name without extension at its last dot.
  private static func splitKey(_ base: String) -> (stem: String, key: String)? {
    guard let dot = base.lastIndex(of: "."), dot != base.startIndex else { return nil }
    return (String(base[..<dot]), String(base[base.index(after: dot)...]))
  }

  /// - Throws: `unsupported` if two names have the same key.
  fileprivate static func requireDistinctKeys(_ names: [String]) throws(QMError) {
    var known: [String: String] = [:]
    for name in names {
      guard let other = known.updateValue(name, forKey: sampleKey(for: name)) else { continue }
      throw .unsupported(
        "'\(other.abbreviated)' and '\(name.abbreviated)' have the same key "
          + "'\(sampleKey(for: name).abbreviated)' in file names; use <name>.npz, whose arrays have "
          + "the full names, or rename one in the model")
    }
  }
}

/// A folder for the outputs of runs, one `<stem>.<key>.npy` per output; ``SampleFolder`` reads them
/// as expected outputs.
public struct ResultFolder: Sendable {
  /// Path of the folder.
  public let path: String

  /// Creates the folder if it does not exist.
  /// - Parameter outputs: names of all outputs that will be written.
  /// - Throws: `cannotWrite`; `unsupported` if two outputs share a key.
  public init(path: String, outputs: [String]) throws(QMError) {
    self.path = path
    try within(.file(path)) { () throws(QMError) in
      try SampleFolder.requireDistinctKeys(outputs)
      if mkdir(path, 0o777) == 0 { return }
      let reason = errno
      guard reason == EEXIST else { throw QMError.cannotWrite(String(cString: strerror(reason))) }
      guard Folder.exists(path) else {
        throw QMError.cannotWrite("is not a folder; give another path")
      }
    }
  }

  /// Writes every output of one sample; each file appears whole or not at all.
  /// - Throws: `cannotWrite`, with the path of the file; also for a stem that leads out of the folder.
  public func write(_ outputs: [String: Tensor], stem: String) throws(QMError) {
    guard !stem.utf8.contains(where: { $0 == UInt8(ascii: "/") || $0 == 0 }) else {
      throw QMError.cannotWrite("'\(stem.abbreviated)' is not the name of a file")
        .within(.file(path))
    }
    for (name, tensor) in outputs.sorted(by: { $0.key < $1.key }) {
      try NPY.write(tensor, to: Folder.path(path, stem + "." + sampleKey(for: name) + ".npy"))
    }
  }
}
