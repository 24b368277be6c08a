import QMOperations
import QMReport
import QMTensor

/// The process as the operating system sees it: streams, signals, memory.
enum Process {
  private static let writing = Locked(())
  private static let temporary = Locked(Temporary())
  private static let interruption = Locked(Interruption())

  /// An interruption that the command answers itself.
  private struct Interruption {
    var isDeferred = false
    /// The number of the signal.
    var signal: Int32?
  }

  /// What must not outlive the process.
  private struct Temporary {
    var folders: Set<String> = []
    /// A command that runs.
    var child: pid_t?
  }

  /// Must be called first, while there is only one thread.
  static func prepare() {
    openStandardStreams()
    // Writing to a closed pipe or beyond the file-size limit then returns an error.
    signal(SIGPIPE, SIG_IGN)
    signal(SIGXFSZ, SIG_IGN)
    // A mapped file was truncated.
    signal(SIGBUS) { _ in
      let line: StaticString = "a file was truncated while it was read; try again\n"
      write(2, line.utf8Start, line.utf8CodeUnitCount)
      _exit(66)
    }
    exitOnInterruption()
  }

  /// Ends the process.
  static func end(_ status: Int32) -> Never { QMReport.exit(status) }

  /// Runs `body`; an interruption of the process waits for its end.
  static func uninterrupted<R: Sendable>(_ body: () throws(QMError) -> R) throws(QMError) -> R {
    try writing.withLock { (_) throws(QMError) in try body() }
  }

  /// From now on, the first interruption is left to the command: it asks
  /// ``interruptingSignal`` between its steps, and ends by itself. The second ends the process.
  static func deferInterruption() { interruption.withLock { $0.isDeferred = true } }

  /// The signal of a deferred interruption; nil if there was none.
  static var interruptingSignal: Int32? { interruption.withLock { $0.signal } }

  /// Peak memory of the process, in bytes.
  static var peakByteCount: Int {
    var usage = rusage()
    #if canImport(Darwin)
      getrusage(RUSAGE_SELF, &usage)
      return Int(usage.ru_maxrss)
    #else
      getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
      return Int(usage.ru_maxrss) * 1024
    #endif
  }

  /// A folder that goes away with the object, and if the process is interrupted.
  final class TemporaryFolder {
    private let url: URL

    /// - Throws: `cannotWrite`.
    init() throws(QMError) {
      let url = FileManager.default.temporaryDirectory
        .appendingPathComponent("qm-\(UUID().uuidString)")
      self.url = url
      temporary.withLock { _ = $0.folders.insert(url.path) }
      do {
        try FileManager.default.createDirectory(
          at: url, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
      } catch {
        throw QMError.cannotWrite("no folder can be made for the outputs").within(.file(url.path))
      }
    }

    deinit {
      let path = url.path
      try? FileManager.default.removeItem(atPath: path)
      temporary.withLock { _ = $0.folders.remove(path) }
    }

    func path(_ name: String) -> String { url.appendingPathComponent(name).path }
  }

  /// Runs a command of the shell, with the signals of a fresh process and no standard input.
  /// - Parameters:
  ///   - command: for `/bin/sh -c`; `$1` is the argument.
  ///   - output: path of the file to which it prints.
  ///   - errors: path of the file for its standard error.
  /// - Returns: its exit status; 128 plus the number of the signal that ended it.
  /// - Throws: `cannotOpen` if the shell cannot be started.
  static func runShell(
    _ command: String, argument: String, output: String, errors: String
  ) throws(QMError) -> Int32 {
    #if canImport(Darwin)
      var (actions, attributes): (posix_spawn_file_actions_t?, posix_spawnattr_t?) = (nil, nil)
    #else
      var (actions, attributes) = (posix_spawn_file_actions_t(), posix_spawnattr_t())
    #endif
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
    posix_spawn_file_actions_addopen(&actions, 1, output, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    posix_spawn_file_actions_addopen(&actions, 2, errors, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    // This process ignores and blocks signals, which its children would inherit.
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var (none, standard) = (sigset_t(), sigset_t())
    sigemptyset(&none)
    sigemptyset(&standard)
    for number in [SIGPIPE, SIGXFSZ] { sigaddset(&standard, number) }
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setsigdefault(&attributes, &standard)
    posix_spawnattr_setflags(
      &attributes, Int16(POSIX_SPAWN_SETSIGMASK) | Int16(POSIX_SPAWN_SETSIGDEF))
    let texts: [String] = ["sh", "-c", command, "sh", argument]
    var words: [UnsafeMutablePointer<CChar>?] = texts.map { strdup($0) }
    words.append(nil)
    defer { for word in words { free(word) } }
    var child = pid_t()
    let reason = posix_spawn(&child, "/bin/sh", &actions, &attributes, &words, environ)
    guard reason == 0 else {
      throw QMError.cannotOpen(String(cString: strerror(reason))).within(.file("/bin/sh"))
    }
    temporary.withLock { [child] in $0.child = child }
    defer { temporary.withLock { $0.child = nil } }
    var status: Int32 = 0
    while waitpid(child, &status, 0) < 0 {
      guard errno == EINTR else { return 127 }
    }
    let signal = status & 0x7f
    return signal == 0 ? (status >> 8) & 0xff : 128 + signal
  }

  /// Whether two paths lead to the same file; false if one of them does not exist.
  static func isSameFile(_ left: String, _ right: String) -> Bool {
    var (a, b) = (stat(), stat())
    guard stat(left, &a) == 0, stat(right, &b) == 0 else { return false }
    return a.st_dev == b.st_dev && a.st_ino == b.st_ino
  }

  /// Opens standard streams that the caller has closed. Otherwise the next file to be opened would
  /// get the descriptor of such a stream, and printed text would end up in it.
  private static func openStandardStreams() {
    for descriptor: Int32 in 0...2 where fcntl(descriptor, F_GETFD) < 0 {
      _ = open("/dev/null", O_RDWR)
    }
  }

  /// Hang-up, interruption and termination end the process with 128 plus the signal's number, after
  /// ``uninterrupted(_:)`` code has ended. Signals that the caller ignores stay ignored.
  private static func exitOnInterruption() {
    var signals = sigset_t()
    sigemptyset(&signals)
    for number in [SIGHUP, SIGINT, SIGTERM] {
      var action = sigaction()
      sigaction(number, nil, &action)
      #if canImport(Darwin)
        let isIgnored = unsafeBitCast(action.__sigaction_u.__sa_handler, to: Int.self) == 1
      #else
        let isIgnored = unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self) == 1
      #endif
      if !isIgnored { sigaddset(&signals, number) }
    }
    // All threads inherit the mask, so that only the thread below receives the signals.
    pthread_sigmask(SIG_BLOCK, &signals, nil)
    // For the thread, which lasts as long as the process.
    let awaited = UnsafeMutablePointer<sigset_t>.allocate(capacity: 1)
    awaited.initialize(to: signals)
    #if canImport(Darwin)
      var thread: pthread_t?
    #else
      var thread = pthread_t()
    #endif
    let reason = pthread_create(
      &thread, nil,
      {
        Process.endOnSignal($0!.assumingMemoryBound(to: sigset_t.self))
        return nil
      }, awaited)
    guard reason == 0 else {
      // Without the thread nobody would answer them.
      pthread_sigmask(SIG_UNBLOCK, &signals, nil)
      return
    }
    #if canImport(Darwin)
      if let thread { pthread_detach(thread) }
    #else
      pthread_detach(thread)
    #endif
  }

  /// Awaits one of the signals that the command does not answer, and ends the process.
  private static func endOnSignal(_ awaited: UnsafePointer<sigset_t>) {
    var number: Int32 = 0
    repeat {
      guard sigwait(awaited, &number) == 0 else { return }
    } while isLeftToCommand(number)
    writing.withLock { [number] _ in
      temporary.withLock { temporary in
        if let child = temporary.child { kill(child, number) }
        for folder in temporary.folders { try? FileManager.default.removeItem(atPath: folder) }
        // Here, so that a thread that awaits the command cannot end the process another way.
        _exit(128 + number)
      }
    }
  }

  /// Whether a signal is the first, and the command answers it.
  private static func isLeftToCommand(_ number: Int32) -> Bool {
    interruption.withLock { interruption in
      guard interruption.isDeferred, interruption.signal == nil else { return false }
      interruption.signal = number
      return true
    }
  }
}
