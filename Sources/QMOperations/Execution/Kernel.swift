import QMTensor

/// One node made ready to run on concrete shapes.
public struct Kernel: Sendable {
  /// The memory of a run.
  public struct Memory {
    /// Base address of each input; nil for optional inputs that are absent, and for no others. The
    /// type rule runs before a kernel is made, so an input that it asks for with `required(_:of:)`
    /// may be unwrapped.
    public let inputs: UnsafeBufferPointer<UnsafeMutableRawPointer?>
    public let outputs: UnsafeBufferPointer<UnsafeMutableRawPointer?>
    /// `scratchByteCount` bytes of any content, aligned to ``Buffer/alignment``.
    public let scratch: UnsafeMutableRawPointer
    public let threads: ThreadPool

    public init(
      inputs: UnsafeBufferPointer<UnsafeMutableRawPointer?>,
      outputs: UnsafeBufferPointer<UnsafeMutableRawPointer?>,
      scratch: UnsafeMutableRawPointer, threads: ThreadPool
    ) {
      self.inputs = inputs
      self.outputs = outputs
      self.scratch = scratch
      self.threads = threads
    }
  }

  /// Shown by profiles: the family and the way, `product int8 avx2` say.
  public let name: String
  /// Scratch for a run with the given number of threads.
  public let scratchByteCount: @Sendable (_ threads: Int) -> Int
  public let run: Body

  public typealias Body = @Sendable (Memory) throws(QMError) -> Void

  public init(
    name: String, scratchByteCount: @escaping @Sendable (_ threads: Int) -> Int = { _ in 0 },
    run: @escaping Body
  ) {
    self.name = name
    self.scratchByteCount = scratchByteCount
    self.run = run
  }
}
