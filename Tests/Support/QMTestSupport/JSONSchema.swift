import Foundation

/// The part of JSON Schema that `schema/` uses: `type`, `properties`, `required`, `items`, `enum`,
/// `anyOf`, `minimum`, `maximum`, `$ref` into `$defs`, and `additionalProperties: false`.
public struct JSONSchema {
  private let definitions: [String: [String: Any]]

  /// A schema from its text.
  public init(_ text: Data) throws {
    let object = try JSONSerialization.jsonObject(with: text) as? [String: Any]
    definitions = object?["$defs"] as? [String: [String: Any]] ?? [:]
  }

  /// What is wrong with a JSON text, with the place of each problem; empty if it is of the definition.
  public func problems(of text: String, as definition: String) throws -> [String] {
    let value = try JSONSerialization.jsonObject(with: Data(text.utf8))
    return problems(value, ["$ref": "#/$defs/\(definition)"], at: definition)
  }

  private static let known: Set<String> = [
    "$ref", "type", "properties", "required", "items", "enum", "anyOf", "minimum", "maximum",
    "additionalProperties", "description",
  ]

  private func problems(_ value: Any, _ schema: [String: Any], at place: String) -> [String] {
    var found = schema.keys.filter { !JSONSchema.known.contains($0) }.map {
      "\(place): this test does not know the keyword \($0)"
    }
    if let reference = schema["$ref"] as? String {
      guard let other = definitions[String(reference.dropFirst("#/$defs/".count))] else {
        return ["\(place): no definition \(reference)"]
      }
      found += problems(value, other, at: place)
    }
    if let choices = schema["anyOf"] as? [[String: Any]],
      choices.allSatisfy({ !problems(value, $0, at: place).isEmpty })
    {
      found.append("\(place): \(value) is none of the choices")
    }
    if let type = schema["type"] as? String, !JSONSchema.is(value, type) {
      return found + ["\(place): \(value) is no \(type)"]
    }
    if let allowed = schema["enum"] as? [String], !allowed.contains(value as? String ?? "") {
      found.append("\(place): \(value) is none of \(allowed)")
    }
    if let number = (value as? NSNumber)?.doubleValue {
      if let least = schema["minimum"] as? Double, number < least {
        found.append("\(place): \(number) is below \(least)")
      }
      if let most = schema["maximum"] as? Double, number > most {
        found.append("\(place): \(number) is above \(most)")
      }
    }
    if let items = value as? [Any], let schema = schema["items"] as? [String: Any] {
      for (index, item) in items.enumerated() {
        found += problems(item, schema, at: "\(place)[\(index)]")
      }
    }
    if let object = value as? [String: Any],
      let properties = schema["properties"] as? [String: [String: Any]]
    {
      for name in schema["required"] as? [String] ?? [] where object[name] == nil {
        found.append("\(place): '\(name)' is missing")
      }
      for (name, item) in object {
        guard let schema = properties[name] else {
          found.append("\(place): the schema does not know '\(name)'")
          continue
        }
        found += problems(item, schema, at: "\(place).\(name)")
      }
    }
    return found
  }

  private static func `is`(_ value: Any, _ type: String) -> Bool {
    switch type {
    case "object": return value is [String: Any]
    case "array": return value is [Any]
    case "string": return value is String
    case "null": return value is NSNull
    default:
      guard let number = value as? NSNumber else { return false }
      let isBoolean = isTruthValue(number)
      if type == "boolean" { return isBoolean }
      return !isBoolean && (type == "number" || number.doubleValue == number.doubleValue.rounded())
    }
  }

  /// JSON's `true` is a number of a type of its own.
  private static func isTruthValue(_ number: NSNumber) -> Bool {
    String(cString: number.objCType) == "c" || number === (true as NSNumber)
      || number === (false as NSNumber)
  }
}
