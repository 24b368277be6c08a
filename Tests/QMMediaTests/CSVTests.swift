import QMMedia
import QMTensor
import QMTestSupport
import Testing

@Suite struct CSVTests {
  private func buffer(_ text: String) throws -> Buffer {
    try Tensor([text.utf8.count], Array(text.utf8)).buffer
  }

  private func samples(
    _ text: String, _ shape: Shape = [1, 2], outputs: [String] = [],
    header: CSVTable.Header = .auto, columns: String? = nil
  ) throws -> (rows: [[Float]], names: [String], expected: [[String: [Float]]]) {
    try withTemporaryFolder { folder in
      let path = folder + "/t.csv"
      try text.write(toFile: path, atomically: true, encoding: .utf8)
      let samples = try CSVSamples(
        path: path, input: SampleInput("x", ValueType(.float32, shape)), outputs: outputs,
        header: header, columns: columns)
      let all = 0..<samples.count
      return (
        try all.map { index in
          let tensor = try #require(try samples.inputs(of: index)["x"])
          #expect(tensor.shape.count == shape.rank)
          return tensor.elements(as: Float.self)
        }, all.map(samples.name),
        try all.map { index in
          try samples.expectedOutputs(of: index).mapValues { tensor in
            #expect(tensor.shape.count == (tensor.elementType == .int64 ? 1 : 2))
            return try tensor.converted(to: .float32).elements(as: Float.self)
          }
        }
      )
    }
  }

  @Test func rowsAreSamples() throws {
    let plain = try samples("1,2\n-3.5,4e2\n")
    #expect(plain.rows == [[1, 2], [-3.5, 400]])
    #expect(plain.names == ["0000", "0001"])
    #expect(try samples("\u{feff}a,b\r\n1, 2 \r\n3,4").rows == [[1, 2], [3, 4]])
    // Six numbers fill an input of other extents.
    #expect(try samples("1,2,3,4,5,6\n", [1, 2, 3]).rows == [[1, 2, 3, 4, 5, 6]])
    #expect(try samples("\"1\",\"a\"\n2,b\n", [1, 1], columns: "0").rows == [[1], [2]])
  }

  @Test func columnsAreChosenByNameOrIndex() throws {
    let text = "name,\"w, \"\"cm\"\"\",h,label\n\"two\nlines\",1,2,0\nx,3,4,1\n"
    #expect(try samples(text, columns: "1-2").rows == [[1, 2], [3, 4]])
    #expect(try samples(text, columns: "h,label").rows == [[2, 0], [4, 1]])
    let labelled = try samples(text, outputs: ["label", "z"], columns: "2,1")
    #expect(labelled.rows == [[2, 1], [4, 3]])
    #expect(labelled.expected == [["label": [0]], ["label": [1]]])
    let halves = try samples("a,b,y,z\n1,2,9,0.5\n3,4,8,1", outputs: ["y", "z"])
    #expect(halves.rows == [[1, 2], [3, 4]])
    #expect(halves.expected == [["y": [9], "z": [0.5]], ["y": [8], "z": [1]]])
    // Without a choice, all columns but that of the labels.
    #expect(try samples("a,b,y\n1,2,9\n", outputs: ["y"]).rows == [[1, 2]])
    for columns in ["4", "2-1", "0-4", "width", "-1", "1-"] {
      #expect(throws: QMError.invalidInput(""), "\(columns)") {
        try samples(text, columns: columns)
      }
    }
    #expect(throws: QMError.usage("")) { try samples(text, columns: "h,,w") }
    for columns in ["1,1", "h,2", "1-3,2-3"] {
      let error = #expect(throws: QMError.invalidInput(""), "\(columns)") {
        try samples(text, columns: columns)
      }
      #expect(error?.message.contains("is there twice") == true)
    }
  }

  @Test func aRowOfTooManyCellsIsRefused() throws {
    var limits = MediaLimits.standard
    limits.columnCount = 3
    #expect(try CSVTable(bytes: buffer("1,2,3\n4,5,6\n"), limits: limits).rowCount == 2)
    #expect(throws: QMError.unsupported("")) {
      try CSVTable(bytes: buffer("1,2,3\n4,5,6,7\n"), limits: limits)
    }
  }

  @Test func aHeaderIsGuessedOrStated() throws {
    // Names that are numbers, as some programs write them.
    #expect(try samples("0,1\n5,6\n").rows.count == 2)
    #expect(try samples("0,1\n5,6\n", header: .yes).rows == [[5, 6]])
    #expect(throws: QMError.malformed("")) { try samples("a,b\n5,6\n", header: .no) }
  }

  /// Every message says where.
  @Test func whatIsNoNumberIsRefusedWithItsPlace() throws {
    for (text, place) in [
      ("1,2\n3,\n", "line 2, column 1 is blank"),
      ("a,b\n1,2\n3,NaN\n", "line 3, column 1 ('b') is 'NaN'"),
      ("1,inf\n1,2\n", "line 1, column 1 is 'inf'"),
      ("1,2\n1,1e99\n", "line 2, column 1 is '1e99'"),
      ("1,0x10\n", "line 1, column 1 is '0x10'"),
      ("1;2\n3;4\n", "line 2, column 0 ('1;2') is '3;4'"),
      ("1,2\n\n3,4\n", "line 2 has 1 cells"), ("1,\"2\n", "on line 1 has no end"),
      ("1,2\n3,4\"\n", "line 2: a quote inside"), ("\"1\"2,3\n", "line 1: something behind"),
      ("", "is empty"), ("\n\n", "is empty"), ("a,b\n", "no rows"),
      ("\"a\nb\",c\n1,2\n3,x\n", "line 4, column 1 ('c')"),
    ] {
      let error = #expect(throws: QMError.malformed(""), "\(text)") {
        try CSVTable(bytes: buffer(text))
      }
      #expect(error?.message.contains(place) == true, "\(error?.message ?? "")")
    }
  }
}
