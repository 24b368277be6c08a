import Foundation
import QMTensor

/// What the tools ask of the operating system.
enum Process {
  private static let writing = NSLock()

  /// Once, before anything else, while there is one thread.
  static func prepare() {
    openStandardStreams()
    // A closed pipe and a full file-size limit are then errors of the write.
    signal(SIGPIPE, SIG_IGN)
    signal(SIGXFSZ, SIG_IGN)
    // A mapped file that was made shorter meanwhile.
    signal(SIGBUS) { _ in
      let line: StaticString = "a file that is being read was made shorter\n"
      write(2, line.utf8Start, line.utf8CodeUnitCount)
      _exit(66)
    }
    exitOnInterruption()
  }

  /// Runs what must not be left half done: an interruption waits for its end.
  static func uninterrupted<R>(_ body: () throws(QMError) -> R) throws(QMError) -> R {
    writing.lock()
    defer { writing.unlock() }
    return try body()
  }

  /// Most memory that the process ever held, in bytes.
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

  /// Whether two paths lead to one file, by whatever names. A file that is not there is no other.
  static func isSameFile(_ left: String, _ right: String) -> Bool {
    var (a, b) = (stat(), stat())
    guard stat(left, &a) == 0, stat(right, &b) == 0 else { return false }
    return a.st_dev == b.st_dev && a.st_ino == b.st_ino
  }

  /// A stream that the caller closed would give its number to the next file that is opened, and
  /// what is printed would land there.
  private static func openStandardStreams() {
    for descriptor: Int32 in 0...2 where fcntl(descriptor, F_GETFD) < 0 {
      _ = open("/dev/null", O_RDWR)
    }
  }

  /// Hang-up, interruption and termination end the process with 128 and their number, once no file
  /// is half written. Signals that the caller had us ignore stay ignored.
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
    // Threads inherit the mask, so that the one below alone takes the signals.
    pthread_sigmask(SIG_BLOCK, &signals, nil)
    let awaited = signals
    Thread.detachNewThread {
      var signals = awaited
      var number: Int32 = 0
      guard sigwait(&signals, &number) == 0 else { return }
      writing.lock()
      _exit(128 + number)
    }
  }
}
