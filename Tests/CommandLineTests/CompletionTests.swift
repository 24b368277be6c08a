import Testing

/// What shells complete: the parser writes the scripts, the declarations say what is a path.
struct CompletionTests {
  @Test(arguments: [
    (
      Tool.qconvert,
      ["samples", "observe-only", "statistics", "weights", "recipe", "metric-samples", "report"]
    ),
    (.qverify, ["reference", "report"]),
    (.qrun, ["output", "labels"]),
    (.qinspect, ["graph"]),
    (.qtune, ["samples", "weights", "recipe", "log", "report"]),
    (.qexport, ["reference"]),
  ])
  func pathsAreCompletedAsFiles(of tool: Tool, options: [String]) throws {
    let script = try tool("--generate-completion-script", "bash").output
    let completions = "__\(tool.rawValue)_add_completions"
    for option in options {
      #expect(script.contains("'--\(option)')\n        \(completions) -f\n"), "--\(option)")
    }
    #expect(script.contains("    1)\n        \(completions) -f\n"), "the first argument")
  }
}
