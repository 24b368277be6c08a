import QMTensor

/// One node, prepared to run on concrete shapes.
public struct Kernel: Sendable {
  /// The memory that one run of a kernel reads and writes.
  public struct Memory {
    /// Base address of each input; nil only for absent optional inputs. The type rule runs before a
    /// kernel is made, so an input checked by `required(_:of:)` may be force-unwrapped.
    public let inputs: UnsafeBufferPointer<UnsafeMutableRawPointer?>
    /// Base address of each output.
    public let outputs: UnsafeBufferPointer<UnsafeMutableRawPointer?>
    /// `scratchByteCount` bytes of undefined content, aligned to ``Buffer/alignment``.
    public let scratch: UnsafeMutableRawPointer
    /// The threads that share the work.
    public let threads: ThreadPool

    /// The memory must outlive the run.
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

  /// The name in profiles: kernel family, form and kernel set, such as `product int8 avx2`.
  public let name: String
  /// Bytes of scratch memory for a run with the given number of threads.
  public let scratchByteCount: @Sendable (_ threads: Int) -> Int
  /// Computes the outputs.
  public let run: Body

  /// Reads the inputs and writes the outputs; throws `invalidInput` if the data of a run
  /// contradicts the shapes.
  public typealias Body = @Sendable (Memory) throws(QMError) -> Void

  /// A kernel that, unless stated otherwise, needs no scratch memory.
  public init(
    name: String, scratchByteCount: @escaping @Sendable (_ threads: Int) -> Int = { _ in 0 },
    run: @escaping Body
  ) {
    self.name = name
    self.scratchByteCount = scratchByteCount
    self.run = run
  }
}
