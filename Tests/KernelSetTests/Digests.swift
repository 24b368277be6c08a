import CKernelDigests

/// A digest for each family of kernels.
struct Digests {
  /// What the portable kernels give here. That those are right is what the tests of the operations
  /// say.
  static let portable = Digests(of: QM_KERNELS_portable)

  var families: [String: UInt64] = [:]

  init() {}

  init(of set: qm_kernel_set) {
    var number: Int32 = 0
    while let family = qm_digest_family_at(number)?.pointee {
      families[String(cString: family.name)] = family.digest(set)
      number += 1
    }
  }

  /// Families that have another digest there, or none on one side.
  func others(than digests: Digests) -> [String] {
    Set(families.keys).union(digests.families.keys).sorted()
      .filter { families[$0] == nil || families[$0] != digests.families[$0] }
  }
}
