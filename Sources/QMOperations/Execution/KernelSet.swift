import CQMKernels

/// An implementation of all operations: the reference loops, or kernels in C for one instruction
/// set. All sets give the same bits.
public struct KernelSet: Hashable, Sendable {
  /// The name that users write: `reference`, or a name from `qm_kernel_set.h`.
  public let rawValue: String
  /// The set's number in C; nil for the reference loops.
  let number: qm_kernel_set?

  private init(name: String, number: qm_kernel_set?) {
    rawValue = name
    self.number = number
  }

  /// The set with the given number in C.
  private init(_ number: qm_kernel_set) {
    self.init(name: String(cString: qm_kernel_set_name(number)), number: number)
  }

  /// The reference loops, in Swift.
  public static let reference = KernelSet(name: "reference", number: nil)
  /// C kernels for the baseline instructions of the architecture.
  public static let portable = KernelSet(QM_KERNELS_portable)

  /// The sets that this machine can run, slowest first.
  public static let available: [KernelSet] = allCases.filter { set in
    set.number.map(qm_kernel_set_available) ?? true
  }

  /// The fastest set that this machine can run.
  public static let best: KernelSet = available.last ?? .reference
}

extension KernelSet: CaseIterable {
  /// All sets, including those that this machine cannot run; slowest first within an architecture.
  public static let allCases: [KernelSet] =
    [reference] + (0..<UInt32(QM_KERNEL_SET_COUNT)).map { KernelSet(qm_kernel_set($0)) }
}

extension KernelSet: CustomStringConvertible {
  public var description: String { rawValue }
}

extension KernelSet: RawRepresentable {
  /// - Returns: nil if no set has the name.
  public init?(rawValue: String) {
    guard let set = Self.allCases.first(where: { $0.rawValue == rawValue }) else { return nil }
    self = set
  }
}
