import QMNumPy
import QMTensor

/// A folder with a file for each sample of a network of one input, or such a file alone; read one at a
/// time, each time anew.
///
/// Expected outputs are in `<stem>.<key>.npy` beside the files, as ``QMNumPy/SampleFolder`` has them.
/// Other files are ignored.
public struct MediaFolder: SampleSource {
  /// What the files hold.
  public enum Kind: Hashable, Sendable, CaseIterable {
    /// PNG and JPEG.
    case pictures
    /// WAV.
    case sounds

    /// The extensions of the files, in lower case.
    var endings: [String] {
      switch self {
      case .pictures: [".png", ".jpg", ".jpeg"]
      case .sounds: [".wav"]
      }
    }

    /// The kind of a file by its extension.
    public init?(fileName: String) {
      let name = fileName.lowercased()
      guard let kind = Kind.allCases.first(where: { $0.endings.contains(where: name.hasSuffix) })
      else { return nil }
      self = kind
    }
  }

  /// The kind of the samples at a path; nil if there are none, or if a folder holds other inputs as
  /// `.npy` or `.npz`.
  /// - Throws: `cannotOpen`; `invalidInput` if a folder holds several kinds.
  public static func kind(of path: String) throws(QMError) -> Kind? {
    guard Folder.exists(path) else { return Kind(fileName: path) }
    let names = try within(.file(path)) { () throws(QMError) in
      try Folder.names(in: path, expected: "expected a folder of samples").sorted()
    }
    var first: [Kind: String] = [:]
    for name in names {
      if let kind = Kind(fileName: name), first[kind] == nil { first[kind] = name }
    }
    let stems = Set(names.filter { Kind(fileName: $0) != nil }.map(MediaFolder.stem))
    let holdsArrays = names.contains { name in
      guard !name.hasSuffix(".npz") else { return true }
      return name.hasSuffix(".npy")
        && !stems.contains(MediaFolder.stem(String(name.dropLast(4))))
    }
    guard !holdsArrays, first.count > 1 else { return holdsArrays ? nil : first.keys.first }
    throw QMError.invalidInput(
      "\(first.values.sorted().joined(separator: " and ")) are samples of unlike kinds; "
        + "give each its own folder"
    ).within(.file(path))
  }

  private let folder: String
  private let files: [(stem: String, name: String)]
  private let input: SampleInput
  private let outputs: [String]
  private let read: @Sendable (_ path: String) throws(QMError) -> Tensor

  /// Lists the samples; it does not read them yet.
  /// - Parameters:
  ///   - path: a folder, or one file.
  ///   - input: the only input of the network.
  ///   - outputs: names of the outputs whose expected values to read, where they lie there.
  ///   - read: the array in a file.
  /// - Throws: `cannotOpen`; `invalidInput` if there are no files of the kind, or if two have the same
  ///   name but for the extension.
  public init(
    _ kind: Kind, path: String, input: SampleInput, outputs: [String],
    read: @escaping @Sendable (_ path: String) throws(QMError) -> Tensor
  ) throws(QMError) {
    var (folder, names) = (path, [""])
    if Folder.exists(path) {
      names = try within(.file(path)) { () throws(QMError) in
        try Folder.names(in: path, expected: "expected a folder of samples")
          .filter { Kind(fileName: $0) == kind }
      }
    } else {
      let slash = path.lastIndex(of: "/")
      folder = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
      names = [slash.map { String(path[path.index(after: $0)...]) } ?? path]
    }
    var stems: [String: String] = [:]
    for name in names.sorted() {
      if let other = stems.updateValue(name, forKey: MediaFolder.stem(name)) {
        throw QMError.invalidInput("\(other) and \(name) have the same name; rename one")
          .within(.file(path))
      }
    }
    guard !stems.isEmpty else {
      throw QMError.invalidInput("no \(kind) in the folder").within(.file(path))
    }
    self.folder = folder
    files = stems.map { (stem: $0.key, name: $0.value) }
      .sorted { $0.stem.utf8.lexicographicallyPrecedes($1.stem.utf8) }
    self.input = input
    self.outputs = outputs
    self.read = read
  }

  /// Number of files; at least 1.
  public var count: Int { files.count }
  /// The name of the file without its extension.
  public func name(of index: Int) -> String { files[index].stem }

  /// The path of the file.
  public func path(of index: Int) -> String { Folder.path(folder, files[index].name) }

  /// The input of one sample.
  /// - Throws: as reading the file does; `invalidInput` if it does not fit the network.
  public func inputs(of index: Int) throws(QMError) -> [String: Tensor] {
    let path = path(of: index)
    let array = try read(path)
    return try within(.file(path)) { () throws(QMError) in
      [input.name: try input.tensor(from: array)]
    }
  }

  /// The expected outputs of one sample, as far as they lie beside it.
  /// - Throws: as ``QMNumPy/NPY/read(path:limits:check:)``.
  public func expectedOutputs(of index: Int) throws(QMError) -> [String: Tensor] {
    var expected: [String: Tensor] = [:]
    for output in outputs {
      let path = Folder.path(folder, files[index].stem + "." + sampleKey(for: output) + ".npy")
      if Folder.holds(path) { expected[output] = try NPY.read(path: path) }
    }
    return expected
  }

  private static func stem(_ name: String) -> String {
    name.lastIndex(of: ".").map { String(name[..<$0]) } ?? name
  }
}
