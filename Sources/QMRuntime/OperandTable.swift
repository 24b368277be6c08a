import QMFormat
import QMTensor

/// The addresses that the steps read and write: one entry per operand, in the order of the steps.
/// A place is the index of an entry.
final class OperandTable {
  /// The places of one step's operands.
  struct Places {
    let inputs: Range<Int>
    let outputs: Range<Int>
  }

  /// The places of each step.
  let places: [Places]
  /// nil for absent operands, and for the program's inputs until they are bound.
  private let addresses: UnsafeMutableBufferPointer<UnsafeMutableRawPointer?>
  /// The places of each program input.
  private let inputPlaces: [[Int]]
  /// The places of each program output that a step computes; empty for other outputs, and for an
  /// output that is the same value as an earlier one.
  let outputPlaces: [[Int]]

  /// - Parameter outputs: for each program output, the value whose bytes it has.
  /// - Throws: `internalFault` if an operand has no memory. Kernels rely on this check, and on the
  ///   type rules, which prove before that a node has all operands that its kernel reads.
  init(
    _ program: Program, _ steps: [PlannedSteps.Step], _ memory: ValueMemory, outputs: [Int]
  ) throws(QMError) {
    var layout = Layout(inputCount: program.inputs.count, outputs: outputs)
    var places: [Places] = []
    for step in steps {
      let inputs = try layout.append(program.nodes[step.node].inputs, memory)
      let outputs = try layout.append(program.nodes[step.lastNode].outputs, memory)
      places.append(Places(inputs: inputs, outputs: outputs))
    }
    self.places = places
    inputPlaces = layout.inputPlaces
    outputPlaces = layout.outputPlaces
    addresses = .allocate(capacity: layout.addresses.count)
    _ = addresses.initialize(from: layout.addresses)
  }

  deinit { addresses.deallocate() }

  /// The table while it is built.
  private struct Layout {
    var addresses: [UnsafeMutableRawPointer?] = []
    var inputPlaces: [[Int]]
    var outputPlaces: [[Int]]
    let outputs: [Int]

    init(inputCount: Int, outputs: [Int]) {
      inputPlaces = [[Int]](repeating: [], count: inputCount)
      outputPlaces = [[Int]](repeating: [], count: outputs.count)
      self.outputs = outputs
    }

    /// Appends entries for the operands of a step.
    /// - Returns: their places.
    mutating func append(_ values: [Int?], _ memory: ValueMemory) throws(QMError) -> Range<Int> {
      let start = addresses.count
      for value in values {
        let origin = value.map { memory.origins[$0] }
        addresses.append(
          try origin.flatMap { (origin) throws(QMError) in
            try address(of: origin, memory)
          })
      }
      return start..<addresses.count
    }

    /// The address to append for a value; nil for an input of the program.
    private mutating func address(
      of value: Int, _ memory: ValueMemory
    ) throws(QMError) -> UnsafeMutableRawPointer? {
      let place = addresses.count
      switch memory.sources[value] {
      case .input(let position):
        inputPlaces[position].append(place)
        return nil
      case .step:
        if let output = outputs.firstIndex(of: value) { outputPlaces[output].append(place) }
      case .constant, .alias, nil: break
      }
      guard let address = memory.address(of: value) else {
        throw .internalFault("value \(value) has no memory")
      }
      return address
    }
  }

  /// The addresses at some places; valid while the table lives.
  subscript(places: Range<Int>) -> UnsafeBufferPointer<UnsafeMutableRawPointer?> {
    UnsafeBufferPointer(rebasing: addresses[places])
  }

  /// Sets the addresses of the program's inputs.
  func bindInputs(_ inputs: [UnsafeMutableRawPointer]) {
    for (places, address) in zip(inputPlaces, inputs) {
      for place in places { addresses[place] = address }
    }
  }

  /// Sets the address at which the steps write, and read, an output of the program.
  func bindOutput(_ output: Int, _ address: UnsafeMutableRawPointer?) {
    for place in outputPlaces[output] { addresses[place] = address }
  }
}
