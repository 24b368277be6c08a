import ArgumentParser
import Hummingbird
import QMRuntime
import QMTensor

/// Answers predictions of one network over HTTP.
@main
struct Server: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "PredictionServer", abstract: "Answers predictions of a .qm file over HTTP.")

  @Argument(help: "The network.") var file: String
  @Option(help: "Port on 127.0.0.1.") var port = 8080
  @Option(help: "Runs at the same time.") var concurrency = 2
  @Option(help: "Requests that may wait for a run; more are answered with 503.") var waiting = 64
  @Option(help: "Milliseconds until a request is given up with 504.") var time = 1000
  @Option(help: "Megabytes of memory for the values of one run.") var memory = 256
  @Option(help: "Megabytes of a request.") var request = 16
  @Flag(
    help: """
      Serve further requests on a connection. A client that goes away is then noticed only after \
      its run.
      """)
  var keepAlive = false

  func validate() throws {
    guard concurrency > 0, waiting >= 0, time > 0, (1...(1 << 20)).contains(memory),
      (1...(1 << 10)).contains(request), (0...65535).contains(port)
    else { throw ValidationError("limits are above 0") }
  }

  func run() async throws {
    let options = Model.Options(runByteLimit: memory << 20)
    let model: Model
    do throws(QMError) {
      model = try Model(contentsOf: file, options: options)
    } catch {
      throw ValidationError(error.description)
    }
    let predictor = Predictor(
      model,
      Predictor.Limits(
        concurrency: concurrency, waiting: waiting, time: .milliseconds(time),
        requestBytes: request << 20))
    let application = Application(
      router: Server.router(predictor, keepAlive: keepAlive),
      configuration: .init(address: .hostname("127.0.0.1", port: port)))
    try await application.runService()
  }

  /// `GET /model` tells the inputs and outputs; `POST /predict` runs the network.
  static func router(_ predictor: Predictor, keepAlive: Bool) -> Router<BasicRequestContext> {
    let router = Router()
    router.get("model") { _, _ in
      Description(
        inputs: predictor.model.inputs.map(Description.Port.init),
        outputs: predictor.model.outputs.map(Description.Port.init))
    }
    router.post("predict") { request, _ in
      // Read first: a request that is refused unread would leave its client sending.
      var request = request
      let body = try await request.collectBody(upTo: predictor.limits.requestBytes)
      let bytes =
        keepAlive
        ? try await predictor.predict(body)
        : try await request.body.consumeWithCancellationOnInboundClose { _ in
          try await predictor.predict(body)
        }
      var headers: HTTPFields = [.contentType: "application/octet-stream"]
      if !keepAlive { headers[.connection] = "close" }
      return Response(status: .ok, headers: headers, body: ResponseBody(byteBuffer: bytes))
    }
    return router
  }
}

/// What a client must know to make a request.
struct Description: ResponseEncodable {
  struct Port: Encodable {
    let name: String
    let type: String

    init(_ port: Model.Port) { (name, type) = (port.name, "\(port.type)") }
  }

  let inputs: [Port]
  let outputs: [Port]
}
