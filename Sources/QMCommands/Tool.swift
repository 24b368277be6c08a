import ArgumentParser
import QMReport
import QMTensor

/// The version that the tools print and write into files.
public let toolVersion = packageVersion

/// The command of a tool.
///
/// Its options are checked together once all arguments are understood, not in `validate()`: the parser
/// calls that before it names an argument that it does not know.
public protocol ToolCommand: ParsableCommand {
  /// Checks the options that do not depend on files.
  /// - Throws: `ValidationError` with a message for the user.
  func checkOptions() throws
}

extension ToolCommand {
  /// The main function of a tool: parses the arguments, runs the command, and ends the process with
  /// the exit status of its error, or 0.
  public static func start() -> Never {
    let tool = configuration.commandName ?? "\(Self.self)"
    Process.prepare()
    do {
      try requireUnicodeArguments()
      var command = try parseAsRoot()
      // It is another command for help and completions.
      try (command as? Self)?.checkOptions()
      try command.run()
    } catch let error as QMError {
      Console.writeError("\(tool): \(error.line)")
      Process.end(error.code.exitStatus)
    } catch {
      // Help and version are no errors.
      guard exitCode(for: error) == .validationFailure else { exit(withError: error) }
      let lines = message(for: error).split(separator: "\n").map {
        $0.trimmingPrefix("  - ")
      }
      Console.writeError(
        "\(tool): \(lines.joined(separator: " ")); --help lists all options")
      Process.end(ExitCode.validationFailure.rawValue)
    }
    Process.end(0)
  }
}

/// Refuses arguments that are not UTF-8: decoding would replace bytes, and so open another file.
private func requireUnicodeArguments() throws(QMError) {
  for index in 0..<Int(CommandLine.argc) {
    guard let argument = CommandLine.unsafeArgv[index] else { continue }
    guard String(validatingCString: argument) != nil else {
      throw .usage("argument \(index) is not UTF-8; rename the file")
    }
  }
}
