/// Why an activation stays float32 although an integer operation could read it as int8 codes.
public enum FloatReason: Hashable, Sendable {
  /// It lies between the first products and a power spectrum or its logarithm.
  case spectralFrontEnd
  /// It lies between the last products and an output.
  case outputTail
  /// Rounding it alone leaves an output with this signal-to-noise ratio (of powers), which is too
  /// low.
  case sensitive(signalToNoise: Double)
  /// It is NaN or infinite on some samples, as attention masks are.
  case nonFinite
  /// It is in a branch that no sample chooses.
  case unseen
}
