import CQMKernels

/// A way to compute every operation: the reference loops, or kernels for an instruction set.
/// All give the same bits.
public enum KernelSet: String, Hashable, Sendable, CaseIterable {
  /// The reference loops, in Swift.
  case reference
  /// C for the baseline of the architecture.
  case portable
  case avx2
  case avx512

  /// The number by which C knows the set; nil for the reference loops.
  var instructionSet: qm_kernel_set? {
    switch self {
    case .reference: nil
    case .portable: QM_PORTABLE
    case .avx2: QM_AVX2
    case .avx512: QM_AVX512
    }
  }

  /// The sets that this machine can run, slowest first.
  public static let available: [KernelSet] = allCases.filter { set in
    set.instructionSet.map(qm_kernel_set_available) ?? true
  }

  /// The fastest set that this machine can run.
  public static let best: KernelSet = available.last ?? .reference
}
