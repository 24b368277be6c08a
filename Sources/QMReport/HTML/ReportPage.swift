import QMTensor

/// A report that can be looked at.
public protocol PageReport: Report {
  /// The report as a page.
  var page: ReportPage { get }
}

/// A report as one HTML page that needs nothing else: no network, no script, no font.
///
/// The page says only what the report holds; each number has all its digits in an attribute, as JSON has
/// them. Times of whole commands are left out: the same results make the same bytes.
public struct ReportPage: Sendable, Hashable {
  private let title: String
  private var body = Markup.empty

  /// A page without content yet.
  /// - Parameter title: plain text, such as the names of files.
  package init(title: String) {
    self.title = title
    body += .element("h1", [:], .name(title))
  }

  /// The page in UTF-8.
  public var bytes: [UInt8] {
    // No page may load anything, whatever a name in it says.
    let policy = "default-src 'none'; style-src 'unsafe-inline'"
    let page = Markup.element(
      "html", ["lang": "en"],
      .element(
        "head", [:], .void("meta", ["charset": "utf-8"]),
        .void("meta", ["http-equiv": "Content-Security-Policy", "content": policy]),
        .void("meta", ["name": "viewport", "content": "width=device-width,initial-scale=1"]),
        .element("title", [:], .name(title)), .pageStyle),
      .element(
        "body", [:],
        .element(
          "main", [:], body,
          .element(
            "footer", ["class": "dim"],
            .text("Made by swift-qm \(packageVersion). All numbers are those of the JSON report.")))
      ))
    return Array("<!DOCTYPE html>\n\(page.source)\n".utf8)
  }

  /// How the page takes its verdict.
  enum Tone: String { case good, warn, plain }

  /// What the reader came for: one line, and sentences that explain it.
  mutating func addVerdict(_ headline: Markup, _ tone: Tone, _ sentences: [Markup]) {
    body += .element(
      "div", ["class": "verdict \(tone.rawValue)"],
      [.element("p", ["class": "headline"], headline)]
        + sentences.map { .element("p", [:], $0) })
  }

  /// Key figures with their names.
  mutating func addTiles(_ tiles: [(figure: Markup, name: String)]) {
    body += .element(
      "div", ["class": "tiles"],
      tiles.map {
        .element(
          "div", ["class": "tile"], .element("b", [:], $0.figure),
          .element("span", [:], .text($0.name)))
      })
  }

  /// A heading with an explanation and content; nothing without content.
  mutating func addSection(_ heading: String, _ explanation: String, _ content: [Markup]) {
    guard !content.isEmpty else { return }
    body += .element("h2", [:], .text(heading))
    if !explanation.isEmpty { body += .element("p", ["class": "dim"], .text(explanation)) }
    for part in content { body += part }
  }
}

/// Parts of a page.
extension Markup {
  /// Charts side by side where there is room.
  static func charts(_ charts: [Markup]) -> Markup { .element("div", ["class": "charts"], charts) }

  /// A chart with the text under it.
  static func figure(_ drawing: Markup, _ caption: Markup) -> Markup {
    .element("figure", [:], drawing, .element("figcaption", [:], caption))
  }

  /// A part that is folded until the reader asks for it.
  static func folded(_ summary: String, _ content: [Markup]) -> Markup {
    .element("details", [:], [.element("summary", [:], .text(summary))] + content)
  }

  /// A column of a table.
  struct Column {
    let title: String
    let style: KeyValuePairs<StaticString, String>

    static func text(_ title: String) -> Column { Column(title: title, style: [:]) }
    /// Short words, which are not broken.
    static func word(_ title: String) -> Column { Column(title: title, style: ["class": "word"]) }
    static func number(_ title: String) -> Column {
      Column(title: title, style: ["class": "number"])
    }
  }

  static func table(_ columns: [Column], _ rows: [[Markup]]) -> Markup {
    func row(_ name: StaticString, _ cells: [Markup]) -> Markup {
      .element(
        "tr", [:],
        zip(columns, cells).map {
          .element(name, $0.style, $1)
        })
    }
    return .element(
      "table", [:],
      [.element("thead", [:], row("th", columns.map { .text($0.title) }))]
        + [.element("tbody", [:], rows.map { row("td", $0) })])
  }

  /// Names with a number each, the most important first, and bars as long as the numbers.
  /// - Parameter rows: the numbers are at least 0.
  static func ranking(
    _ columns: [Column], _ rows: [(cells: [Markup], value: Double)]
  ) -> Markup {
    let most = rows.map(\.value).filter(\.isFinite).max() ?? 0
    func cell(_ column: Column, _ name: StaticString, _ content: Markup) -> Markup {
      .element(name, column.style, content)
    }
    return .element(
      "table", [:],
      .element(
        "thead", [:],
        .element(
          "tr", [:], columns.map { cell($0, "th", .text($0.title)) } + [.element("th")])),
      .element(
        "tbody", [:],
        rows.map { row in
          let share = most > 0 ? min(max(row.value / most, 0), 1) : 0
          let bar = Markup.element(
            "svg", ["viewBox": "0 0 100 10", "preserveAspectRatio": "none", "aria-hidden": "true"],
            .element(
              "rect",
              [
                "x": "0", "y": "0", "width": coordinate(100 * (share.isNaN ? 0 : share)),
                "height": "10", "class": "bar",
              ]))
          return .element(
            "tr", [:],
            zip(columns, row.cells).map { cell($0, "td", $1) }
              + [.element("td", ["class": "rank"], bar)])
        }))
  }
}
