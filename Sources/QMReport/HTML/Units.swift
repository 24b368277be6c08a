/// Formats numbers for people.
package enum Units {
  /// A size in a unit that leaves one to three digits before the point: `67.9 KiB`.
  package static func bytes(_ count: Int) -> String {
    if count < 1024 { return "\(count) bytes" }
    var (value, unit) = (Double(count) / 1024, "KiB")
    for larger in ["MiB", "GiB", "TiB"] where value >= 1024 {
      (value, unit) = (value / 1024, larger)
    }
    return "\(fixed(value, value < 100 ? 1 : 0)) \(unit)"
  }

  package static func seconds(_ seconds: Double) -> String {
    if seconds < 1e-3 { return "\(fixed(seconds * 1e6, 1)) µs" }
    if seconds < 1 { return "\(fixed(seconds * 1e3, seconds < 0.1 ? 2 : 0)) ms" }
    return "\(fixed(seconds, 1)) s"
  }

  package static func decibels(_ value: Double) -> String {
    if value == .infinity { return "∞ dB" }
    if value == -.infinity { return "−∞ dB" }
    return "\(fixed(value, 1)) dB"
  }

  package static func percent(_ share: Double, digits: Int = 1) -> String {
    "\(fixed(100 * share, digits)) %"
  }

  package static func significant(_ value: Double, digits: Int = 3) -> String {
    formatted("%.*g", digits, value)
  }

  /// All digits that the number has: 4, 2.5.
  package static func shortest(_ value: Double) -> String {
    value == value.rounded() && abs(value) < 0x1p53 ? "\(Int(value))" : "\(value)"
  }

  package static func fixed(_ value: Double, _ digits: Int) -> String {
    formatted("%.*f", digits, value)
  }

  /// A number as C's printf writes it.
  private static func formatted(_ format: String, _ digits: Int, _ value: Double) -> String {
    // A number has up to 309 digits before the point.
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 320 + digits) { text in
      _ = withVaList([Int32(digits), value]) {
        vsnprintf(text.baseAddress!, text.count, format, $0)
      }
      return String(cString: text.baseAddress!)
    }
  }

  /// `1 sample`, `2 samples`.
  package static func count(_ number: Int, _ noun: String) -> String {
    "\(number) \(noun)\(number == 1 ? "" : "s")"
  }
}
