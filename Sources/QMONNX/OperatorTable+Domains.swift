import QMOperations
import QMTensor

extension OperatorTable {
  /// The operators of other domains on numbers.
  static let domainOperators: [ONNXOperator] = [
    // ai.onnx.ml
    learned("Scaler", inputs: 1...1, .table) { (node) throws(QMError) in try node.scaler() },
    learned("Normalizer", inputs: 1...1) { (node) throws(QMError) in try node.normalizer() },
    learned("Imputer", inputs: 1...1, .float) { (node) throws(QMError) in try node.imputer() },
    learned("Binarizer", inputs: 1...1) { (node) throws(QMError) in try node.binarizer() },
    learned("LinearRegressor", inputs: 1...1) { (node) throws(QMError) in
      try node.linearRegressor()
    },
    learned("LinearClassifier", inputs: 1...1, .float, "classes that are integers") {
      (node) throws(QMError) in try node.linearClassifier()
    },
    learned("ArrayFeatureExtractor", inputs: 2...2, .move) { (node) throws(QMError) in
      try node.arrayFeatureExtractor()
    },
    learned("ZipMap", inputs: 1...1, nil, "gives the tensor") { (node) throws(QMError) in
      try node.zipMap()
    },
    learned("TreeEnsemble", inputs: 1...1, .integer, "trees of up to 512 steps") {
      (node) throws(QMError) in try node.treeEnsemble()
    },
    learned("TreeEnsembleRegressor", inputs: 1...1, .integer, "trees of up to 512 steps") {
      (node) throws(QMError) in try node.treeRegressor()
    },
    learned("TreeEnsembleClassifier", inputs: 1...1, .float, "trees of up to 512 steps") {
      (node) throws(QMError) in try node.treeClassifier()
    },
    learned("LabelEncoder", inputs: 1...1, .move, "from numbers to numbers") {
      (node) throws(QMError) in
      try node.labelEncoder()
    },

    // com.microsoft
    microsoft("Gelu", inputs: 1...1, runs: .table) { (node) throws(QMError) in
      try node.microsoftGelu(.gelu)
    },
    microsoft("BiasGelu", inputs: 2...2) { (node) throws(QMError) in
      try node.microsoftGelu(.gelu)
    },
    microsoft("FastGelu", inputs: 1...2, runs: .table) { (node) throws(QMError) in
      try node.microsoftGelu(.geluTanh)
    },
    microsoft("QuickGelu", inputs: 1...1) { (node) throws(QMError) in try node.quickGelu() },
    microsoft("SkipLayerNormalization", inputs: 3...5) { (node) throws(QMError) in
      try node.skipNormalization(isCentred: true)
    },
    microsoft("SkipSimplifiedLayerNormalization", inputs: 3...4) { (node) throws(QMError) in
      try node.skipNormalization(isCentred: false)
    },
    ONNXOperator("SimplifiedLayerNormalization", since: 1, inputs: 2...2, .integer) {
      (node) throws(QMError) in try node.rmsNormalization()
    },
    microsoft("FusedMatMul", inputs: 2...2) { (node) throws(QMError) in
      try node.fusedMatrixMultiply()
    },
    microsoft("FusedConv", inputs: 2...4) { (node) throws(QMError) in
      try node.fusedConvolution()
    },
    microsoft("FusedGemm", inputs: 2...3) { (node) throws(QMError) in try node.fusedGemm() },
  ]
}
