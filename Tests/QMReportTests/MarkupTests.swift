import QMReport
import Testing

@Suite struct MarkupTests {
  @Test func textAndAttributesAreEscaped() {
    let evil = "</script><img src=x onerror='a()'> & \"q\""
    let escaped = "&lt;/script&gt;&lt;img src=x onerror=&#39;a()&#39;&gt; &amp; &quot;q&quot;"
    #expect(
      Markup.element("p", ["title": evil], .text(evil)).source
        == "<p title=\"\(escaped)\">\(escaped)</p>")
  }

  /// A name with a character that turns the direction of writing could make a page say something else.
  @Test func charactersThatPrintNothingAreShown() {
    #expect(Markup.text("a\u{202E}b\u{0}\n").source == "a\\u{202e}b\\u{0}\\u{a}")
  }

  @Test func namesHaveAnEnd() {
    #expect(Markup.name(String(repeating: "n", count: 100_000)).source.count == 121)
    // One character of 100,001 scalars.
    let tall = "a" + String(repeating: "\u{301}", count: 100_000)
    #expect(tall.count == 1)
    #expect(Markup.name(tall).source.unicodeScalars.count < 250)
  }

  @Test func figuresKeepAllDigits() {
    #expect(
      Markup.decibels(22.3456789).source == "<data value=\"22.3456789\">22.3 dB</data>")
    #expect(Markup.figure(12).source == "<data value=\"12\">12</data>")
    #expect(Markup.digits(.infinity) == "Infinity")
    #expect(Markup.digits(0.1 + 0.2) == "0.30000000000000004")
  }
}
