import QMTraining
import Testing

@Suite struct DivergenceWatchTests {
  /// Whether training has diverged after each loss.
  private func found(_ losses: [Double], before: Double = 1) -> [Bool] {
    var watch = DivergenceWatch(lossBefore: before)
    return losses.map { watch.add($0) }
  }

  @Test func oneHardBatchIsNoDivergence() {
    #expect(!found([1, 1, 1e6, 1, 1, 1e6, 1]).contains(true))
    #expect(!found([0.0025, 0.44, 0.0025, 0.0025], before: 0.0025).contains(true))
  }

  @Test func aLossThatStaysHighIsOne() {
    #expect(found([1] + [Double](repeating: 20, count: 6)).last == true)
    #expect(found([1] + [Double](repeating: 8, count: 60)).contains(true) == false)
  }

  @Test(arguments: [Double.nan, .infinity]) func noNumberIsOneAtOnce(loss: Double) {
    #expect(found([1, loss]) == [false, true])
    // It is no measure for what follows.
    #expect(found([loss, 1, 20, 20, 20, 20, 20]).last == true)
  }

  @Test func whatPruningCostsCounts() {
    var watch = DivergenceWatch(lossBefore: 1)
    for _ in 0..<20 {
      let hasDiverged = watch.add(14, mayRise: true)
      #expect(!hasDiverged)
    }
    let hasDiverged = watch.add(14)
    #expect(!hasDiverged)
  }

  @Test func afterAWayBackTheCountBeginsAnew() {
    var watch = DivergenceWatch(lossBefore: 1)
    let losses = [1.0] + [Double](repeating: 50, count: 3)
    #expect(losses.map { watch.add($0) } == [false, false, false, true])
    watch.restart()
    let hasDiverged = watch.add(50)
    #expect(!hasDiverged)
  }
}
