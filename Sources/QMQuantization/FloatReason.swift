/// Why an activation that an integer operation could read as int8 codes stays float32.
public enum FloatReason: Hashable, Sendable {
  /// Between the first products and a power spectrum or its logarithm.
  case spectralFrontEnd
  /// Between the last products and an output.
  case outputTail
  /// Rounding it alone leaves an output this signal-to-noise ratio, of powers: too little.
  case sensitive(signalToNoise: Double)
  /// It held NaN or infinities over the samples, as masks of attention do.
  case nonFinite
  /// It is in a branch that no sample takes.
  case unseen
}
