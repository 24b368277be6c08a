import QMTensor

// Operations that move elements and never look at them. They take every element type, and codes
// keep their quantization. Axes are counted from the front.

public struct Identity: OperationProtocol {
  public static let name = "Identity"
  public init() {}
}

/// Inputs: data; int64 extents, where −1 stands for what is left and 0 for the input's extent
/// (unless `zeroIsZero`).
public struct Reshape: OperationProtocol {
  public static let name = "Reshape"
  /// ONNX's `allowzero`.
  public var zeroIsZero: Bool
  public init(zeroIsZero: Bool = false) { self.zeroIsZero = zeroIsZero }
}

/// Two axes: the product of those before `axis`, and of the rest.
public struct Flatten: OperationProtocol {
  public static let name = "Flatten"
  public var axis: Int
  public init(axis: Int) { self.axis = axis }
}

/// Drops axes of extent 1; nil: all of them.
public struct Squeeze: OperationProtocol {
  public static let name = "Squeeze"
  public var axes: [Int]?
  public init(axes: [Int]?) { self.axes = axes }
}

/// Adds axes of extent 1 at these places of the result, ascending.
public struct Unsqueeze: OperationProtocol {
  public static let name = "Unsqueeze"
  public var axes: [Int]
  public init(axes: [Int]) { self.axes = axes }
}

/// Output axis i is input axis `permutation[i]`.
public struct Transpose: OperationProtocol {
  public static let name = "Transpose"
  public var permutation: [Int]
  public init(permutation: [Int]) { self.permutation = permutation }
}

/// Any number of inputs of one element type and quantization, joined along `axis`.
public struct Concatenate: OperationProtocol {
  public static let name = "Concatenate"
  public var axis: Int
  public init(axis: Int) { self.axis = axis }
}

/// Consecutive parts along `axis`, one output per size.
public struct Split: OperationProtocol {
  public static let name = "Split"

  public enum Sizes: Hashable, Sendable {
    case explicit([Int])
    /// Equal parts; the last is smaller where the extent does not divide.
    case equal(parts: Int)
  }
  public var axis: Int
  public var sizes: Sizes
  public init(axis: Int, sizes: Sizes) {
    self.axis = axis
    self.sizes = sizes
  }
}

/// Inputs: data; int64 `[k]` starts, ends, axes (optional), steps (optional), with ONNX's clamping.
public struct Slice: OperationProtocol {
  public static let name = "Slice"
  public init() {}
}

/// Inputs: data; int64 `[2·k]` elements to add before (first half) and after (negative: to crop);
/// the constant (optional scalar, 0 without; `constant` only); int64 `[k]` axes (optional).
/// On codes the constant is a real number, rounded to the input's grid.
public struct Pad: OperationProtocol {
  public static let name = "Pad"
  public enum Mode: UInt8, Hashable, Sendable {
    case constant = 0
    case reflect = 1
    case edge = 2
    case wrap = 3
  }
  public var mode: Mode
  public init(_ mode: Mode) { self.mode = mode }
}

/// Inputs: data; int32 or int64 indices, negative ones from the end. The indices' axes stand in
/// the place of `axis`.
public struct Gather: OperationProtocol {
  public static let name = "Gather"
  public var axis: Int
  public init(axis: Int) { self.axis = axis }
}

/// Inputs: data; int64 extents to broadcast with.
public struct Expand: OperationProtocol {
  public static let name = "Expand"
  public init() {}
}

/// Inputs: data; int64 repeats, one per axis.
public struct Tile: OperationProtocol {
  public static let name = "Tile"
  public init() {}
}

/// The extents `start..<end` of the input, int64. Negative bounds count from the end and are
/// clamped to the rank.
public struct ShapeOf: OperationProtocol {
  public static let name = "ShapeOf"
  public var start: Int
  /// nil: all.
  public var end: Int?
  public init(start: Int = 0, end: Int? = nil) {
    self.start = start
    self.end = end
  }
}

/// Inputs: int64 extents; a scalar that fills them.
public struct Fill: OperationProtocol {
  public static let name = "Fill"
  public init() {}
}
