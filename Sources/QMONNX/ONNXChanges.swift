import QMTensor

/// Changes to a network before it is read: other inputs and outputs, fixed values, new weights.
public struct ONNXChanges: Sendable {
  /// A value that becomes an input. The nodes that compute it are dropped.
  public struct Input: Hashable, Sendable {
    /// The value's name in the file.
    public var name: String
    /// nil for the shape that the file declares or the network computes.
    public var shape: Shape?

    /// The value `name` as an input of this shape.
    public init(name: String, shape: Shape? = nil) {
      self.name = name
      self.shape = shape
    }

    /// Parses `name`, or `name=1,3,height,width`: a number is a fixed extent, a word the name of a
    /// dynamic axis.
    /// - Throws: `usage` for a negative extent, or for an empty or too long word.
    public init(argument: String) throws(QMError) {
      guard let mark = argument.lastIndex(of: "=") else {
        self.init(name: argument)
        return
      }
      let list = argument[argument.index(after: mark)...]
      var axes: [Shape.Axis] = []
      for word in list.split(separator: ",", omittingEmptySubsequences: false) {
        if let extent = Int(word) {
          guard extent >= 0 else {
            throw .usage("input '\(argument)' has the negative extent \(extent)")
          }
          axes.append(.fixed(extent))
        } else {
          guard !word.isEmpty, word.utf8.count <= Shape.nameLimit else {
            throw .usage("found input '\(argument)', expected name=extent,extent,…")
          }
          axes.append(.free(String(word)))
        }
      }
      self.init(name: String(argument[..<mark]), shape: Shape(axes))
    }
  }

  /// The constant elements of a value.
  public enum Setting: Sendable {
    /// A tensor of the value's type and shape.
    case tensor(Tensor)
    /// Numbers, `true` or `false`, separated by commas; converted to the value's type. One number
    /// stands for all elements.
    case text(String)
  }

  /// Names of the values that become the outputs; empty to keep the network's outputs.
  public var outputs: [String]
  /// Values that become inputs.
  public var inputs: [Input]
  /// Constants that replace inputs or computed values, by name.
  public var settings: [String: Setting]
  /// Elements that replace those of constants in the file, by name; of the same shape.
  public var weights: [String: Tensor]

  /// Changes of these kinds; without arguments none.
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
  /// The elements for a value of this type. The first dynamic axis gets the extent that the number
  /// of elements requires, any other 1.
  /// - Throws: `usage` if the number of elements does not match or the type cannot hold one.
  func tensor(_ elementType: ElementType, _ shape: Shape) throws(QMError) -> Tensor {
    switch self {
    case .tensor(let tensor):
      guard tensor.elementType == elementType, shape.admits(tensor.shape) else {
        throw .usage("found \(tensor), expected \(elementType) \(shape)")
      }
      return tensor
    case .text(let text):
      let numbers = try Self.numbers(text)
      var fixed = shape.axes.map { $0.extent ?? 1 }
      let isWhole = Shape.elementCount(of: fixed) == numbers.count
      if !isWhole, let dynamic = shape.axes.firstIndex(where: { $0.extent == nil }),
        let rest = Shape.elementCount(of: fixed), rest > 0, numbers.count % rest == 0
      {
        fixed[dynamic] = numbers.count / rest
      }
      guard let count = Shape.elementCount(of: fixed),
        count == numbers.count || numbers.count == 1
      else {
        throw .usage(
          "found \(numbers.count) numbers for \(elementType) \(shape), expected one or one per element"
        )
      }
      guard count <= 1 << 20 else {
        throw .usage("a value of \(count) elements; at most \(1 << 20) can be set")
      }
      let all = numbers.count == count ? numbers : Array(repeating: numbers[0], count: count)
      do {
        let exact = try Tensor(fixed, all)
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
          throw .usage("'\(String(word).abbreviated)' is not a finite number, true or false")
        }
        numbers.append(number)
      }
    }
    return numbers
  }

  /// One number for all elements, if that is what the text says and float32 can hold it.
  var number: Float? {
    guard case .text(let text) = self, let numbers = try? Self.numbers(text), numbers.count == 1,
      Float(numbers[0]).isFinite
    else { return nil }
    return Float(numbers[0])
  }

  /// The element type to assume for a value of unknown type.
  var likelyType: ElementType {
    switch self {
    case .tensor(let tensor): tensor.elementType
    case .text("true"), .text("false"): .bool
    case .text(let text):
      text.allSatisfy { $0.isNumber || $0 == "-" || $0 == "," } ? .int64 : .float32
    }
  }
}
