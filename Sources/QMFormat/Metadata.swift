import QMOperations

extension Program {
  /// What a file says about its program and the interpreter does not need.
  public struct Metadata: Sendable, Hashable {
    /// A text under a key. The order of entries is kept; keys may repeat.
    public struct Entry: Sendable, Hashable {
      public var key: String
      public var value: String

      public init(_ key: String, _ value: String) {
        self.key = key
        self.value = value
      }
    }

    /// A figure by which an output was compared with the float network. Raw values are written in
    /// files.
    public enum Measure: UInt8, Hashable, Sendable, CaseIterable {
      /// Signal to quantization noise in dB; infinite where nothing differs.
      case signalToNoise = 0
      case largestDifference = 1
      case cosine = 2
      /// Fraction of rows whose largest element stands at the same index.
      case topOneAgreement = 3

      public var name: String {
        switch self {
        case .signalToNoise: "SQNR in dB"
        case .largestDifference: "largest difference"
        case .cosine: "cosine"
        case .topOneAgreement: "top-1 agreement"
        }
      }
    }

    public struct Measurement: Sendable, Hashable {
      /// Index into the program's outputs.
      public var output: Int
      public var measure: Measure
      /// Not NaN.
      public var value: Float
      public var sampleCount: Int

      public init(output: Int, _ measure: Measure, _ value: Float, sampleCount: Int) {
        self.output = output
        self.measure = measure
        self.value = value
        self.sampleCount = sampleCount
      }
    }

    /// How a node runs.
    public struct Note: Sendable, Hashable {
      public var mode: ExecutionMode
      /// Why, in a few words.
      public var reason: String

      public init(_ mode: ExecutionMode, reason: String = "") {
        self.mode = mode
        self.reason = reason
      }
    }

    /// Name and version of the tool that made the program.
    public var producer: String
    /// File name of the network that the program was made from, without its folder.
    public var sourceName: String
    /// SHA-256 of that file, 32 bytes; empty where there is none.
    public var sourceDigest: [UInt8]
    /// The options of the conversion, in the order in which a recipe lists them.
    public var recipe: [Entry]
    public var measurements: [Measurement]
    /// Keys of inputs and outputs in the file names of samples; one each, or none at all.
    public var inputKeys: [String]
    public var outputKeys: [String]
    /// One per node, or none at all.
    public var notes: [Note]
    /// Anything else: labels, preprocessing, licence.
    public var entries: [Entry]

    public init(
      producer: String = "", sourceName: String = "", sourceDigest: [UInt8] = [],
      recipe: [Entry] = [], measurements: [Measurement] = [], inputKeys: [String] = [],
      outputKeys: [String] = [], notes: [Note] = [], entries: [Entry] = []
    ) {
      self.producer = producer
      self.sourceName = sourceName
      self.sourceDigest = sourceDigest
      self.recipe = recipe
      self.measurements = measurements
      self.inputKeys = inputKeys
      self.outputKeys = outputKeys
      self.notes = notes
      self.entries = entries
    }
  }
}
