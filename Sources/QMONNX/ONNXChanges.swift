import QMTensor

/// What a caller changes of a network before it is read.
public struct ONNXChanges: Sendable {
  /// A value that becomes an input, whatever computed it.
  public struct Input: Hashable, Sendable {
    public var name: String
    /// nil: as it is declared, or as the network computes it.
    public var shape: Shape?

    public init(name: String, shape: Shape? = nil) {
      self.name = name
      self.shape = shape
    }

    /// `name`, or `name=1,3,height,width`: a number fixes an axis, a word names a free one.
    /// - Throws: `usage`.
    public init(argument: String) throws(QMError) {
      guard let mark = argument.lastIndex(of: "=") else {
        self.init(name: argument)
        return
      }
      let list = argument[argument.index(after: mark)...]
      var axes: [Shape.Axis] = []
      for word in list.split(separator: ",", omittingEmptySubsequences: false) {
        if let extent = Int(word) {
          guard extent >= 0 else { throw .usage("extent \(extent) of input '\(argument)'") }
          axes.append(.fixed(extent))
        } else {
          guard !word.isEmpty, word.utf8.count <= Shape.nameLimit else {
            throw .usage("'\(argument)' is no name=extent,extent,…")
          }
          axes.append(.free(String(word)))
        }
      }
      self.init(name: String(argument[..<mark]), shape: Shape(axes))
    }
  }

  /// The number, or numbers, that a value has for good.
  public enum Setting: Sendable {
    case tensor(Tensor)
    /// Numbers, `true` or `false`, separated by commas; their type is the value's.
    case text(String)
  }

  /// None: the network's own.
  public var outputs: [String]
  public var inputs: [Input]
  /// By name of an input, or of a value that is computed otherwise.
  public var settings: [String: Setting]
  /// Elements of constants in the place of the file's own, by name.
  public var weights: [String: Tensor]

  public init(
    outputs: [String] = [], inputs: [Input] = [], settings: [String: Setting] = [:],
    weights: [String: Tensor] = [:]
  ) {
    self.outputs = outputs
    self.inputs = inputs
    self.settings = settings
    self.weights = weights
  }
}

extension ONNXChanges.Setting {
  /// The elements for a value of this type; free axes take what there is.
  /// - Throws: `usage` if there are too few or too many, or one does not fit.
  func tensor(_ elementType: ElementType, _ shape: Shape) throws(QMError) -> Tensor {
    switch self {
    case .tensor(let tensor):
      guard tensor.elementType == elementType, shape.admits(tensor.shape) else {
        throw .usage("it is \(elementType) \(shape), and cannot be set to \(tensor)")
      }
      return tensor
    case .text(let text):
      let numbers = try Self.numbers(text)
      var extents = shape.axes.map { $0.extent ?? 1 }
      let isWhole = Shape.elementCount(of: extents) == numbers.count
      if !isWhole, let free = shape.axes.firstIndex(where: { $0.extent == nil }),
        let rest = Shape.elementCount(of: extents), rest > 0, numbers.count % rest == 0
      {
        extents[free] = numbers.count / rest
      }
      guard let count = Shape.elementCount(of: extents),
        count == numbers.count || numbers.count == 1
      else { throw .usage("\(numbers.count) numbers for \(elementType) \(shape)") }
      guard count <= 1 << 20 else { throw .usage("a value of \(count) elements; set fewer") }
      let all = numbers.count == count ? numbers : Array(repeating: numbers[0], count: count)
      do {
        let exact = try Tensor(extents, all)
        return try (elementType.isFloatingPoint ? exact.converted(to: .float32) : exact)
          .converted(to: elementType)
      } catch {
        throw QMError(.usage, error.message, remedies: error.remedies)
      }
    }
  }

  private static func numbers(_ text: String) throws(QMError) -> [Double] {
    var numbers: [Double] = []
    for word in text.split(separator: ",", omittingEmptySubsequences: false) {
      switch word {
      case "true": numbers.append(1)
      case "false": numbers.append(0)
      default:
        guard let number = Double(word), number.isFinite else {
          throw .usage("'\(String(word).abbreviated)' is no number")
        }
        numbers.append(number)
      }
    }
    return numbers
  }

  /// The type of a value of which nothing is known.
  var likelyType: ElementType {
    switch self {
    case .tensor(let tensor): tensor.elementType
    case .text("true"), .text("false"): .bool
    case .text(let text):
      text.allSatisfy { $0.isNumber || $0 == "-" || $0 == "," } ? .int64 : .float32
    }
  }
}
