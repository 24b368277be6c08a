import CQMKernels

/// A way to compute every operation: the reference loops, or kernels in C for an instruction set.
/// All give the same bits.
public struct KernelSet: Hashable, Sendable {
  /// The name, as users write it: `reference`, or that of a row of `qm_kernel_set.h`.
  public let rawValue: String
  /// The number by which C knows the set; nil for the reference loops.
  let number: qm_kernel_set?

  private init(name: String, number: qm_kernel_set?) {
    rawValue = name
    self.number = number
  }

  /// The set of C with the given number.
  private init(_ number: qm_kernel_set) {
    self.init(name: String(cString: qm_kernel_set_name(number)), number: number)
  }

  /// The reference loops, in Swift.
  public static let reference = KernelSet(name: "reference", number: nil)
  /// C for the baseline of the architecture.
  public static let portable = KernelSet(QM_KERNELS_portable)

  /// The sets that this machine can run, slowest first.
  public static let available: [KernelSet] = allCases.filter { set in
    set.number.map(qm_kernel_set_available) ?? true
  }

  /// The fastest set that this machine can run.
  public static let best: KernelSet = available.last ?? .reference
}

extension KernelSet: CaseIterable {
  /// Every set, whatever the machine: those of an architecture stand slowest first.
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
