import QMTensor

/// How far a window may hang over the edges of the spatial axes.
public enum Padding: Hashable, Sendable {
  case explicit(before: [Int], after: [Int])
  /// As much as makes the output extent ⌈input / stride⌉; the odd element goes after.
  case sameUpper
  /// As ``sameUpper``; the odd element goes before.
  case sameLower
}

/// Convolution over any number of spatial axes.
///
/// Input positions: ``ProductOperand``. Input `[N, C, …]` or `[N, …, C]` by `order`.
/// Weights `[O, C/groups, k…]` with channels first, `[O, k…, C/groups]` with channels last.
/// Padding stands for the number 0.
public struct Convolution: OperationProtocol {
  public static let name = "Convolution"

  public var order: ChannelOrder
  /// One entry per spatial axis each.
  public var strides: [Int]
  public var dilations: [Int]
  public var padding: Padding
  public var groups: Int
  public var epilogue: Epilogue

  public init(
    order: ChannelOrder, strides: [Int], dilations: [Int], padding: Padding, groups: Int,
    epilogue: Epilogue = Epilogue()
  ) {
    self.order = order
    self.strides = strides
    self.dilations = dilations
    self.padding = padding
    self.groups = groups
    self.epilogue = epilogue
  }
}
