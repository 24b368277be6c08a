import QMTraining
import Testing

@Suite struct TaskMetricTests {
  private func value(
    _ form: TaskMetric.Form, _ output: [Float], _ target: [Float], _ shape: [Int]
  ) -> Double {
    var metric = TaskMetric(form)
    metric.add(output, target, shape: shape)
    return metric.report(of: "y", hasLabels: true).value
  }

  @Test func classesAreComparedAlongTheirAxis() {
    // Rows 0 and 2 agree; of equal scores the first counts.
    let output: [Float] = [1, 5, 2, 7, 0, 3, 4, 4, 1]
    let target: [Float] = [0, 1, 0, 0, 0, 1, 1, 0, 0]
    #expect(value(.classes(axis: -1), output, target, [3, 3]) == 2.0 / 3)
    // Of columns, the last two agree.
    #expect(value(.classes(axis: -2), output, target, [3, 3]) == 2.0 / 3)
    #expect(value(.classes(axis: -2), output, output, [3, 3]) == 1)
    #expect(value(.classes(axis: -2), [1, 2, 3, 0], [0, 1, 1, 0], [1, 2, 2]) == 1)
  }

  @Test func decisionsAreComparedAtOneHalf() {
    #expect(value(.decisions, [0.4, 0.6, 0.9, 0.5], [0, 1, 0, 0], [4]) == 0.75)
  }

  @Test func numbersHaveARatioOfPowers() {
    #expect(abs(value(.numbers, [1, 1.9], [1, 2], [2]) - 26.9897) < 1e-3)
    #expect(value(.numbers, [1, 2], [1, 2], [2]) == .infinity)
  }

  @Test func theNameSaysWhatWasCompared() {
    #expect(TaskMetric(.decisions).report(of: "y", hasLabels: true).name == .accuracy)
    #expect(TaskMetric(.decisions).report(of: "y", hasLabels: false).name == .agreement)
    #expect(TaskMetric(.numbers).report(of: "y", hasLabels: true).name == .signalToNoise)
  }
}
