import QMTensor

/// A piece of HTML or SVG. Text from outside gets in through ``text(_:)`` and attribute values, which
/// escape it; names of elements and attributes are literals of the source.
package struct Markup: Sendable, Hashable {
  /// The piece as it stands in the page.
  package private(set) var source: String

  private init(source: String) { self.source = source }

  /// Nothing.
  package static let empty = Markup(source: "")

  /// Text, escaped. Characters that print nothing or change the direction of writing are shown by their
  /// numbers.
  package static func text(_ text: String) -> Markup { Markup(source: escaped(text)) }

  /// The name of something from a file: shortened if it is very long.
  package static func name(_ name: String) -> Markup { .text(Markup.shortened(name)) }

  /// An element with its children.
  package static func element(
    _ name: StaticString, _ attributes: KeyValuePairs<StaticString, String> = [:],
    _ children: Markup...
  ) -> Markup {
    element(name, attributes, children)
  }

  /// An element with its children.
  package static func element(
    _ name: StaticString, _ attributes: KeyValuePairs<StaticString, String> = [:],
    _ children: [Markup]
  ) -> Markup {
    var source = opening(name, attributes) + ">"
    for child in children { source += child.source }
    return Markup(source: source + "</\(name)>")
  }

  /// An element that has no children and no end: `meta`.
  package static func void(
    _ name: StaticString, _ attributes: KeyValuePairs<StaticString, String>
  ) -> Markup {
    Markup(source: opening(name, attributes) + ">")
  }

  /// A style sheet of the source.
  package static func style(_ sheet: StaticString) -> Markup {
    Markup(source: "<style>\(sheet)</style>")
  }

  package static func + (left: Markup, right: Markup) -> Markup {
    Markup(source: left.source + right.source)
  }

  package static func += (left: inout Markup, right: Markup) { left.source += right.source }

  private static func opening(
    _ name: StaticString, _ attributes: KeyValuePairs<StaticString, String>
  ) -> String {
    attributes.reduce("<\(name)") { $0 + " \($1.key)=\"\(escaped($1.value))\"" }
  }

  private static func escaped(_ text: String) -> String {
    var escaped = ""
    for scalar in text.printable.unicodeScalars {
      switch scalar {
      case "&": escaped += "&amp;"
      case "<": escaped += "&lt;"
      case ">": escaped += "&gt;"
      case "\"": escaped += "&quot;"
      case "'": escaped += "&#39;"
      default: escaped.unicodeScalars.append(scalar)
      }
    }
    return escaped
  }

  /// One character may be a megabyte of combining marks, which ``Swift/String/abbreviated`` keeps.
  package static func shortened(_ name: String) -> String {
    let most = 200
    guard name.unicodeScalars.count > most else { return name.abbreviated }
    return (String(String.UnicodeScalarView(name.unicodeScalars.prefix(most))) + "…").abbreviated
  }
}

extension Markup {
  /// A number of the report, as people read it; the attribute `value` has all its digits.
  package static func figure(_ value: Double, _ text: String) -> Markup {
    .element("data", ["value": digits(value)], .text(text))
  }

  /// A count or a size of the report.
  package static func figure(_ value: Int, _ text: String? = nil) -> Markup {
    .element("data", ["value": "\(value)"], .text(text ?? "\(value)"))
  }

  /// A number as JSON has it.
  package static func digits(_ value: Double) -> String {
    value.isFinite
      ? Units.shortest(value) : value.isNaN ? "NaN" : value > 0 ? "Infinity" : "-Infinity"
  }

  /// SQNR: `22.4 dB`, or `exact` where nothing differs.
  package static func decibels(_ value: Double) -> Markup {
    .figure(value, value == .infinity ? "exact" : Units.decibels(value))
  }
}
