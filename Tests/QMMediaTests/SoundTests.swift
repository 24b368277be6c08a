import QMMedia
import QMNumPy
import QMTensor
import QMTestSupport
import Testing

/// The files of `fixtures/generate/sounds.py`.
@Suite struct SoundTests {
  @Test func numbersAreThoseOfSciPy() throws {
    let expected = try NPZArchive(path: Fixtures.path("sounds/expected.npz"))
    #expect(expected.names.count == 7)
    for name in expected.names {
      let sound = try Sound(path: Fixtures.path("sounds/" + name))
      let (found, theirs) = (sound.samples, try expected.tensor(named: name))
      #expect(found.shape == theirs.shape, "\(name)")
      #expect(found.elements(as: Float.self) == theirs.elements(as: Float.self), "\(name)")
      #expect(sound.rate == (name == "stereo_16.wav" ? 44_100 : 16_000))
    }
  }

  @Test func whatIsNoWholeSoundIsRefused() throws {
    let codes: [String: String] = try Fixtures.json("sounds/reject/expected.json")
    #expect(codes.count >= 16)
    for (name, code) in codes {
      do {
        _ = try Sound(path: Fixtures.path("sounds/reject/" + name))
        Issue.record("\(name) was read")
      } catch {
        #expect(
          error.code == (code == "malformed" ? .malformed : .unsupported), "\(name): \(error)")
      }
    }
  }

  @Test func rateAndChannelsMustBeTheNetworks() throws {
    func input(_ shape: Shape) -> SampleInput { SampleInput("x", ValueType(.float32, shape)) }
    let mono = try Sound(path: Fixtures.path("sounds/mono_16.wav"))
    let stereo = try Sound(path: Fixtures.path("sounds/stereo_24.wav"))
    #expect(try mono.tensor(for: input([1, 50]), rate: 16_000).shape == [1, 50])
    #expect(try mono.tensor(for: input([1, 1, 50]), rate: nil).shape == [1, 1, 50])
    #expect(try stereo.tensor(for: input([1, 2, 50]), rate: nil).shape == [1, 2, 50])
    #expect(throws: QMError.invalidInput("")) { try mono.tensor(for: input([1, 50]), rate: 8_000) }
    #expect(throws: QMError.invalidInput("")) { try stereo.tensor(for: input([1, 50]), rate: nil) }
  }
}
