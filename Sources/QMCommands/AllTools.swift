import QMReport

/// All tools in one program, for packages that bring the Swift runtime along: the name that it is
/// called by says which tool it is.
public enum AllTools {
  /// The main function.
  public static func start() -> Never {
    switch CommandLine.arguments.first?.split(separator: "/").last {
    case "qconvert":
      OperatorListing.startIfAsked()
      ConvertCommand.start()
    case "qverify": VerifyCommand.start()
    case "qrun": RunCommand.start()
    case "qinspect": InspectCommand.start()
    case "qtune": TuneCommand.start()
    case "qexport": ExportCommand.start()
    default:
      Console.writeError("call this program qconvert, qverify, qrun, qinspect, qtune or qexport")
      Process.end(64)
    }
  }
}
