import Foundation

/// Runs one target under libFuzzer, whose arguments follow the target's name:
/// `fuzz npy -max_total_time=300 corpus/npy`.

/// libFuzzer's driver. Its own `main`, which is linked too, is not used.
@_silgen_name("LLVMFuzzerRunDriver")
func runDriver(
  _ argumentCount: UnsafeMutablePointer<Int32>,
  _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>,
  _ body: @convention(c) (UnsafePointer<UInt8>?, Int) -> Int32
) -> Int32

let name = CommandLine.arguments.dropFirst().first ?? ""
guard let target = Target(rawValue: name) else {
  let names = Target.allCases.map(\.rawValue).joined(separator: "|")
  FileHandle.standardError.write(Data("usage: fuzz \(names) [libFuzzer's arguments]\n".utf8))
  exit(64)
}
Target.chosen = target

var arguments: [UnsafeMutablePointer<CChar>?] =
  CommandLine.arguments.enumerated()
  .filter { $0.offset != 1 }.map { strdup($0.element) } + [nil]
var count = Int32(arguments.count - 1)
let status = arguments.withUnsafeMutableBufferPointer { buffer in
  var base = buffer.baseAddress
  return withUnsafeMutablePointer(to: &base) { base in
    runDriver(&count, base, runOne)
  }
}
exit(status)
