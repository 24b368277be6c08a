import CKernelDigests
import Foundation
import Testing

/// Every kernel set gives the digests of the portable one: those of this machine, those of 64-bit
/// ARM in an emulator, and those of AVX-512 and VNNI with their instructions written out.
@Suite struct KernelSetTests {
  @Test func setsOfThisMachineAgree() {
    for number in 0..<UInt32(QM_KERNEL_SET_COUNT) {
      let set = qm_kernel_set(number)
      guard qm_kernel_set_available(set) else { continue }
      let name = String(cString: qm_kernel_set_name(set))
      #expect(Digests(of: set).others(than: .portable) == [], "kernel set \(name)")
    }
  }

  // MARK: 64-bit ARM

  @Test(
    .enabled(if: ARM.missing.isEmpty, "not installed: \(ARM.missing.joined(separator: ", "))"))
  func setsOfARMAgree() throws {
    // The dynamic library brings the few functions of the compiler's own library that it needs.
    let program = try DigestProgram(
      compilation: ["--target=aarch64-linux-gnu", "-isystem", ARM.library + "/include"],
      linking: ["--target=aarch64-linux-gnu", "-fuse-ld=lld", "-nostdlib", "-L\(ARM.library)/lib"]
        + ["-Wl,--dynamic-linker=/lib/ld-linux-aarch64.so.1"]
        + ["crt1.o", "crti.o", "crtn.o"].map { "\(ARM.library)/lib/\($0)" } + ["-lm", "-lc"])
    let sets = [
      "max": ["portable", "neon", "neondot"],
      // Without dot products.
      "cortex-a53": ["portable", "neon"],
    ]
    for (processor, expected) in sets {
      let found = try program.digests(
        emulator: [ARM.emulator!, "-L", ARM.library, "-cpu", processor])
      #expect(Set(found.keys) == Set(expected), "\(processor)")
      for (set, digests) in found {
        #expect(digests.others(than: .portable) == [], "\(set) of \(processor)")
      }
    }
  }

  /// The C library of 64-bit ARM under Linux, and an emulator.
  private enum ARM {
    static let library = "/usr/aarch64-linux-gnu"
    static let emulator = DigestProgram.path(of: "qemu-aarch64")

    static var missing: [String] {
      var names: [String] = []
      if DigestProgram.compiler == nil { names.append("clang") }
      if emulator == nil { names.append("qemu-aarch64 (qemu-user)") }
      if !FileManager.default.fileExists(atPath: library + "/lib/crt1.o") {
        names.append("\(library) (libc6-dev-arm64-cross)")
      }
      return names
    }
  }

  // MARK: AVX-512

  @Test(
    .enabled(
      if: DigestProgram.compiler != nil && qm_kernel_set_available(QM_KERNELS_avx2),
      "clang is not installed, or the processor has no AVX2"))
  func setsOfAVX512Agree() throws {
    let header = DigestProgram.tests.appendingPathComponent("avx512_emulation.h").path
    let program = try DigestProgram(
      compilation: ["-include", header, "-Wno-psabi"], linking: ["-lm"])
    let found = try program.digests()
    #expect(Set(found.keys) == ["portable", "avx2", "avxvnni", "avx512", "avx512vnni"])
    for (set, digests) in found { #expect(digests.others(than: .portable) == [], "\(set)") }
  }
}
