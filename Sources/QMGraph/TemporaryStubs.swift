import QMOperations
enum LookupTable { static func entries(of: [UnaryFunction], inputScale: Float, inputZeroPoint: Int32, outputScale: Float, outputZeroPoint: Int32) -> [Int8] { [] } }
