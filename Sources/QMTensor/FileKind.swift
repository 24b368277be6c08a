/// A format that people have at hand and give to a reader of another one, told by its first bytes.
package enum FileKind: Sendable {
  case png, jpeg, safetensors, torch, pickle, hdf5, tflite, gguf, qm, onnx, npy, npz

  /// The format of a file; nil if it is none of these.
  /// - Parameter start: the first 64 bytes or more, or the whole file.
  package init?(_ start: UnsafeRawBufferPointer) {
    func begins(_ bytes: [UInt8], at offset: Int = 0) -> Bool {
      start.dropFirst(offset).starts(with: bytes)
    }
    func begins(_ text: String, at offset: Int = 0) -> Bool { begins(Array(text.utf8), at: offset) }
    guard start.count >= 4 else { return nil }
    switch start[0] {
    case 0x89 where begins("PNG", at: 1): self = .png
    case 0x89 where begins("HDF", at: 1): self = .hdf5
    case 0xff where begins([0xd8, 0xff], at: 1): self = .jpeg
    case 0x80 where (2...5).contains(start[1]): self = .pickle
    case 0x93 where begins("NUMPY", at: 1): self = .npy
    case 0x47 where begins("GGUF"): self = .gguf
    case 0x51 where begins([0x4d, 0x89], at: 1): self = .qm
    case 0x50 where begins([0x4b, 3, 4], at: 1):
      // torch.save writes `<name>/data.pkl` first.
      let name = start.dropFirst(30).prefix(start.count > 27 ? Int(start[26]) : 0)
      self = name.reversed().starts(with: "/data.pkl".utf8.reversed()) ? .torch : .npz
    default:
      if begins([0, 0], at: 2), begins("TFL3", at: 4) {
        self = .tflite
      } else if begins([0, 0, 0, 0], at: 4), begins("{\"", at: 8) {
        // The length of the header, which is JSON.
        self = .safetensors
      } else if start[0] == 0x08, (1...20).contains(start[1]),
        [0x12, 0x1a, 0x22, 0x28, 0x32, 0x3a, 0x42].contains(start[2])
      {
        // The version, and then another field of the model.
        self = .onnx
      } else {
        return nil
      }
    }
  }

  /// The error for a file of this format in the place of another.
  /// - Parameter expected: what should be there: "a .qm file".
  package func refusal(expected: String) -> QMError {
    let (found, remedy) = text
    return .malformed("found \(found), expected \(expected)", remedies: .changeModel(how: remedy))
  }

  /// What the file is, and what to do with it.
  private var text: (found: String, remedy: String) {
    let image = "decode it and save its numbers as the network takes them (.npy)"
    let torch = "export the network with torch.onnx.export, or save the arrays with numpy.savez"
    return switch self {
    case .png: ("a PNG image", image)
    case .jpeg: ("a JPEG image", image)
    case .safetensors: ("a safetensors file", "save its arrays with numpy.savez")
    case .torch: ("a PyTorch file", torch)
    case .pickle: ("a Python pickle, as of PyTorch", torch)
    case .hdf5: ("an HDF5 file, as of Keras", "export the network to ONNX with tf2onnx or Keras")
    case .tflite: ("a TensorFlow Lite model", "export the original network to ONNX")
    case .gguf: ("a GGUF file", "export the original network to ONNX")
    case .qm: ("a .qm file", "give the file that it was made from")
    case .onnx: ("an ONNX network", "convert it to a .qm file first, or give another file")
    case .npy: ("a NumPy array", "give another file")
    case .npz: ("a ZIP archive, as of NumPy", "give another file")
    }
  }
}
