import CQMKernels

/// A way to compute every operation: the reference loops, or kernels for an instruction set.
/// All give the same bits.
public enum KernelSet: String, Hashable, Sendable, CaseIterable {
  /// The reference loops, in Swift.
  case reference
  /// C for the baseline of the architecture.
  case portable
  case avx2
  /// AVX2, and dot products of bytes.
  case avxvnni
  case avx512
  /// AVX-512, and dot products of bytes.
  case vnni
  /// 64-bit ARM.
  case neon
  /// NEON, and dot products of bytes.
  case neondot

  /// The number by which C knows the set in products; nil for the reference loops.
  var productSet: qm_kernel_set? {
    switch self {
    case .avxvnni: QM_AVX_VNNI
    case .vnni: QM_AVX512_VNNI
    case .neondot: QM_NEON_DOT
    default: instructionSet
    }
  }

  /// The number by which C knows the set in all else; nil for the reference loops.
  var instructionSet: qm_kernel_set? {
    switch self {
    case .reference: nil
    case .portable: QM_PORTABLE
    case .avx2, .avxvnni: QM_AVX2
    case .avx512, .vnni: QM_AVX512
    case .neon, .neondot: QM_NEON
    }
  }

  /// The sets that this machine can run, slowest first.
  public static let available: [KernelSet] = allCases.filter { set in
    set.productSet.map(qm_kernel_set_available) ?? true
  }

  /// The fastest set that this machine can run.
  public static let best: KernelSet = available.last ?? .reference
}
