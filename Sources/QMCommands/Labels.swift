import QMReport
import QMTensor

/// The correct classes of each sample, from JSON: `{"0000": 3, "0001": [1, 5]}`, or the same object
/// under the key `"label"`.
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
        "expected a JSON object that maps each sample to a whole number or a list of them"
      ).within(.file(path))
    }
  }

  func labels(of stem: String) throws(QMError) -> [Int] {
    switch entries[stem] {
    case .one(let label): return [label]
    case .several(let labels): return labels
    case nil: throw .invalidInput("the sample has no label")
    }
  }
}
