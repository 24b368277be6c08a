@_spi(Testing) import QMFormat
import QMTensor

// Repairs every checksum of damaged `.qm` files in place, so that what stands behind the checksums
// is tried too: `reseal FILE…`. With `--split FILE OUT` it writes the inflated sections as the fuzz
// target "payload" takes them.

let arguments = CommandLine.arguments.dropFirst()
do {
  if arguments.first == "--split", arguments.count == 3 {
    let container = try Container(path: arguments[arguments.startIndex + 1])
    var bytes: [UInt8] = []
    for section in container.sections {
      let inflated = try container.inflated(section)
      let content = withExtendedLifetime(inflated) { Array(inflated.bytes) }
      bytes.append(section.kind.rawValue)
      bytes += (0..<3).map { UInt8(truncatingIfNeeded: content.count >> (8 * $0)) }
      bytes += content
    }
    try AtomicFile.write(bytes, to: arguments[arguments.startIndex + 2])
  } else {
    for path in arguments {
      let buffer = try Buffer.reading(path: path)
      let bytes = withExtendedLifetime(buffer) { Array(buffer.bytes) }
      try AtomicFile.write(Container.reseal(bytes), to: path)
    }
  }
} catch {
  print("\(error)")
}
