import QMOperations

/// What a convolution by Winograd's algorithm costs with a kernel set, in units of one multiplication
/// by weights of 8 bits in the direct form. `make tune` measures them; files and results do not
/// depend on them.
package struct WinogradCosts {
  /// A tile of 4 × 4 positions, for each pair of an input and an output channel.
  let tile: Double
  /// The transforms of a tile, for each input and each output channel.
  let transform: Double
  /// One multiplication by weights of fewer than 8 bits in the direct form.
  let fewBits: Double
  /// Channels that a vector of the transforms holds.
  let vector: Int
  /// Output channels of a panel, and of the panels for few output channels.
  let columns: (many: Int, few: Int)

  /// The costs with `kernels`. Sets that no machine at hand could be asked about have those of the
  /// set that is most like them.
  package static func costs(_ kernels: KernelSet) -> WinogradCosts {
    switch kernels.rawValue {
    case "portable":  // Zen 5
      WinogradCosts(tile: 33, transform: 90, fewBits: 1, vector: 8, columns: (8, 8))
    case "avxvnni":  // Zen 5
      WinogradCosts(tile: 77, transform: 860, fewBits: 1, vector: 16, columns: (16, 8))
    case "avx512":  // Zen 5
      WinogradCosts(tile: 31, transform: 520, fewBits: 0.5, vector: 32, columns: (32, 16))
    case "avx512vnni":  // Zen 5
      WinogradCosts(tile: 76, transform: 1160, fewBits: 1, vector: 32, columns: (32, 16))
    default:  // AVX2 of Skylake-SP
      WinogradCosts(tile: 36, transform: 700, fewBits: 0.7, vector: 16, columns: (16, 8))
    }
  }

  /// What the transform saves in a run; negative if the direct form is faster.
  /// - Parameters:
  ///   - height: positions of the output along its first axis.
  ///   - width: those along its second axis.
  package func gain(channels: Int, outputs: Int, height: Int, width: Int, hasFewBits: Bool)
    -> Double
  {
    gain(
      channels: channels, outputs: outputs, positions: Double(height) * Double(width),
      tiles: Double((height + 3) / 4) * Double((width + 3) / 4), hasFewBits: hasFewBits)
  }

  /// The same for an output whose shape is not known. It assumes that the number of positions falls
  /// as the number of channels grows: most networks double the channels where they halve height and
  /// width.
  func gain(channels: Int, outputs: Int, hasFewBits: Bool) -> Double {
    let positions = 1e9 / (Double(channels) * Double(outputs))
    return gain(
      channels: channels, outputs: outputs, positions: positions, tiles: positions / 16,
      hasFewBits: hasFewBits)
  }

  private func gain(
    channels: Int, outputs: Int, positions: Double, tiles: Double, hasFewBits: Bool
  ) -> Double {
    func whole(_ count: Int, _ step: Int) -> Double { Double((count + step - 1) / step * step) }
    let directColumns = whole(outputs, outputs <= columns.few ? columns.few : columns.many)
    let (input, output) = (whole(channels, vector), whole(outputs, columns.many))
    let direct = 9 * positions * Double(channels) * directColumns * (hasFewBits ? fewBits : 1)
    return direct - tiles * (tile * input * output + transform * (input + output))
  }
}
