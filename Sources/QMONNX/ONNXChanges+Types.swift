import QMTensor

extension ONNXChanges {
  /// The settings of random numbers to one number each, by name.
  func noise(in graph: ONNXGraph) -> [String: Float] {
    let drawn = Set(graph.nodes.filter(\.canRepeatOneNumber).flatMap(\.outputs))
    return settings.compactMapValues(\.number).filter { drawn.contains($0.key) }
  }

  /// The settings, with those of computed values converted to tensors. Settings of the network's
  /// own inputs stay as they are.
  /// - Parameter done: names of settings to leave out.
  /// - Throws: `usage` for a value that does not exist or a setting that does not fit it; errors of
  ///   reading the nodes before the value.
  func typedSettings(
    _ probe: TypeProbe, except done: Set<String>
  ) throws(QMError) -> [String: Setting] {
    let ownInputs = Set(probe.network.inputs.map(\.name))
    var typed = settings.filter { !done.contains($0.key) }
    for (name, setting) in typed where !ownInputs.contains(name) {
      typed[name] = try within(.value(name)) { () throws(QMError) in
        if case .tensor = setting { return setting }
        let type = try probe.type(of: name)
        return .tensor(
          try setting.tensor(
            type?.elementType ?? setting.likelyType, type?.shape ?? Shape([.free("")])))
      }
    }
    return typed
  }

  /// The values that become inputs, with their types. Inputs of the network whose shape does not
  /// change are left out.
  /// - Throws: `usage` for a value that does not exist; `unsupported` if its shape cannot be
  ///   computed; errors of reading the nodes before the value.
  func typedInputs(_ probe: TypeProbe) throws(QMError) -> [(name: String, type: ValueType)] {
    var typed: [(name: String, type: ValueType)] = []
    for input in inputs {
      let own = probe.network.inputs.first { $0.name == input.name }
      try within(.value(input.name)) { () throws(QMError) in
        if let shape = input.shape {
          let declared = try (own?.type?.dataType).map { (type) throws(QMError) in
            try ElementType.stored(onnx: type)
          }
          let computed = try? declared ?? probe.type(of: input.name)?.elementType
          typed.append((input.name, ValueType(computed ?? .float32, shape)))
        } else if own == nil {
          guard let type = try probe.type(of: input.name) else {
            throw .unsupported(
              "its producer uses an unsupported operator, so its shape is unknown",
              remedies: .stateShape(of: input.name))
          }
          typed.append((input.name, type))
        }
      }
    }
    return typed
  }
}
