import QMFormat
import QMTensor

/// The addresses of what steps read and write: one place for each operand, in the order of the
/// steps.
final class OperandTable {
  /// Places of the operands of one step.
  struct Places {
    let inputs: Range<Int>
    let outputs: Range<Int>
  }

  /// Of each step.
  let places: [Places]
  /// nil of operands that a node does not have, and of the program's inputs until they are bound.
  private let addresses: UnsafeMutableBufferPointer<UnsafeMutableRawPointer?>
  /// Places of each program input.
  private let inputPlaces: [[Int]]
  /// Places of each program output that a step computes; empty of the others, and of those that
  /// are the bytes of an earlier one.
  let outputPlaces: [[Int]]

  /// - Parameter outputs: for each program output the value whose bytes it is.
  /// - Throws: `internalFault` if an operand has no memory. Kernels rely on this: that a node has
  ///   the operands which its kernel reads, the type rule of its operation has proved before.
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

  /// The table as it grows.
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

    /// - Returns: the places of these operands.
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

    /// What to write at the next place.
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

  /// The addresses at some places; valid as long as the table.
  subscript(places: Range<Int>) -> UnsafeBufferPointer<UnsafeMutableRawPointer?> {
    UnsafeBufferPointer(rebasing: addresses[places])
  }

  /// Lets the steps read the program's inputs at these addresses.
  func bindInputs(_ inputs: [UnsafeMutableRawPointer]) {
    for (places, address) in zip(inputPlaces, inputs) {
      for place in places { addresses[place] = address }
    }
  }

  /// Lets the steps write an output of the program at an address, and read it there.
  func bindOutput(_ output: Int, _ address: UnsafeMutableRawPointer?) {
    for place in outputPlaces[output] { addresses[place] = address }
  }
}
