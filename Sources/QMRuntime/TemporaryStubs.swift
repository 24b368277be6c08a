import QMFormat
import QMOperations
import QMTensor
extension Program {
  func validate() throws(QMError) {}
  init(decoding: Buffer) throws(QMError) { throw .unsupported("") }
}
