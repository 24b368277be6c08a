import Foundation
import QMTensor

/// The right classes, by sample: `{"0000": 3, "0001": [1, 5]}`, or that under `"label"`.
struct Labels {
  private enum Entry: Decodable {
    case one(Int)
    case several([Int])

    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      if let label = try? container.decode(Int.self) {
        self = .one(label)
      } else {
        self = .several(try container.decode([Int].self))
      }
    }
  }
  private struct Wrapped: Decodable { let label: [String: Entry] }

  private let entries: [String: Entry]

  init(path: String) throws(QMError) {
    let bytes = try Buffer.mapping(path: path)
    let data = Data(bytes.bytes)
    do {
      if let wrapped = try? JSONDecoder().decode(Wrapped.self, from: data) {
        entries = wrapped.label
      } else {
        entries = try JSONDecoder().decode([String: Entry].self, from: data)
      }
    } catch {
      throw QMError.malformed(
        "expected a JSON object with a whole number, or a list of them, for each sample"
      ).within(.file(path))
    }
  }

  func labels(of stem: String) throws(QMError) -> [Int] {
    switch entries[stem] {
    case .one(let label): return [label]
    case .several(let labels): return labels
    case nil: throw .invalidInput("there is no label for it")
    }
  }
}
