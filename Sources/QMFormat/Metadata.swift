import QMOperations

extension Program {
  /// Information about a program that running it does not need.
  public struct Metadata: Sendable, Hashable {
    /// A key and a text. The order of entries is kept; keys may repeat.
    public struct Entry: Sendable, Hashable {
      /// The key.
      public var key: String
      /// The text.
      public var value: String

      /// A key and a text.
      public init(_ key: String, _ value: String) {
        self.key = key
        self.value = value
      }
    }

    /// A measure of the difference between an output and that of the float network. Raw values are
    /// written in files.
    public enum Measure: UInt8, Hashable, Sendable, CaseIterable {
      /// Median over the samples of the signal-to-quantization-noise ratio in dB; infinite if nothing
      /// differs.
      case signalToNoise = 0
      /// Largest absolute difference of two elements.
      case largestDifference = 1
      /// Cosine similarity of all elements as one vector.
      case cosine = 2
      /// Fraction of rows whose largest element has the same index in both.
      case topOneAgreement = 3
      /// Median absolute deviation of the samples' signal-to-quantization-noise ratios, in dB.
      case deviation = 4
      /// Fraction of elements that are equal in both.
      case agreement = 5
      /// Median over the samples of the root mean square of the float network's signal, to which the
      /// error of a sample is compared.
      case magnitude = 6

      /// The name of the measure, for people.
      public var name: String {
        switch self {
        case .signalToNoise: "SQNR in dB"
        case .largestDifference: "largest difference"
        case .cosine: "cosine"
        case .topOneAgreement: "top-1 agreement"
        case .deviation: "deviation of SQNR in dB"
        case .agreement: "agreement"
        case .magnitude: "magnitude"
        }
      }
    }

    /// A part of an output that is measured by itself: some of its elements, or an inner value from
    /// which the output is chosen.
    public struct Part: Sendable, Hashable {
      /// Which numbers of the elements are compared. Raw values are written in files.
      public enum Form: UInt8, Hashable, Sendable, CaseIterable {
        /// The elements themselves.
        case elements = 0
        /// The log odds of independent probabilities.
        case logOdds = 1
        /// The log odds of the classes in each row of class probabilities.
        case classLogOdds = 2
      }

      /// Name of the inner value; empty for the output itself.
      public var value: String
      /// The axis along which the part is cut, or that of the classes, counted from the end: −1 is
      /// the last. 0 if there is no such axis.
      public var axis: Int
      /// The indices along the axis; empty for all elements.
      public var ranges: [Range<Int>]
      /// Which numbers are compared.
      public var form: Form
      /// Whether this is the part after one more step, for which the program gets its own states or
      /// those of the float network.
      public var isNextStep: Bool

      /// A part of an output or of an inner value.
      public init(
        value: String = "", axis: Int = 0, ranges: [Range<Int>] = [], form: Form = .elements,
        isNextStep: Bool = false
      ) {
        self.value = value
        self.axis = axis
        self.ranges = ranges
        self.form = form
        self.isNextStep = isNextStep
      }

      /// Whether the part has an axis.
      var hasAxis: Bool { !ranges.isEmpty || form == .classLogOdds }
    }

    /// A measured difference between an output and that of the float network.
    public struct Measurement: Sendable, Hashable {
      /// Index into the program's outputs.
      public var output: Int
      /// The part of the output; nil for the whole output.
      public var part: Part?
      /// What was measured.
      public var measure: Measure
      /// The result, in the unit of the measure; not NaN.
      public var value: Float
      /// Number of samples that were measured.
      public var sampleCount: Int

      /// A measurement of one output, or of a part of it.
      public init(
        output: Int, part: Part? = nil, _ measure: Measure, _ value: Float, sampleCount: Int
      ) {
        self.output = output
        self.part = part
        self.measure = measure
        self.value = value
        self.sampleCount = sampleCount
      }
    }

    /// How a node runs, and why.
    public struct Note: Sendable, Hashable {
      /// How the node runs.
      public var mode: ExecutionMode
      /// Why it runs so, in a few words.
      public var reason: String

      /// A note on one node.
      public init(_ mode: ExecutionMode, reason: String = "") {
        self.mode = mode
        self.reason = reason
      }
    }

    /// Name and version of the tool that wrote the program.
    public var producer: String
    /// Name of the file that the program was converted from, without its folder.
    public var sourceName: String
    /// SHA-256 of that file (32 bytes), or empty.
    public var sourceDigest: [UInt8]
    /// The options of the conversion, in the order of the recipe.
    public var recipe: [Entry]
    /// Measured differences from the float network.
    public var measurements: [Measurement]
    /// The key of each input in file names of samples, in order, or empty.
    public var inputKeys: [String]
    /// The key of each output in file names of samples, in order, or empty.
    public var outputKeys: [String]
    /// One note per node, in order, or empty.
    public var notes: [Note]
    /// Anything else, such as labels, preprocessing or a licence.
    public var entries: [Entry]

    /// Key of the entry for the number of inputs that the conversion made from noise: then the
    /// measurements are of these, and do not bound those of real samples.
    public static let madeInputsKey = "made inputs"

    /// Key of the entry for the digest of the samples that the conversion got: 64 hexadecimal digits.
    public static let sampleSetKey = "samples digest"

    /// Whether the measurements are of inputs that the conversion made itself.
    public var isMeasuredOnMadeInputs: Bool {
      entries.contains { $0.key == Program.Metadata.madeInputsKey }
    }

    /// Metadata from its parts; all are empty by default.
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
