import Foundation
import QMTraining
import Testing

@Suite struct ScheduleTests {
  private static let (steps, warmUp) = (120, 20)

  /// The factor by the formula of a form, `share` of the steps after the warm-up.
  private func formula(_ form: Schedule.Form, _ share: Double) -> Double {
    switch form {
    case .constant, .plateau: 1
    case .step: share < 1 / 3.0 ? 1 : share < 2 / 3.0 ? 0.1 : 0.01
    case .exponential: pow(0.01, share)
    case .cosine: 1 / 20.0 + (1 - 1 / 20.0) * (1 + cos(.pi * share)) / 2
    }
  }

  @Test(arguments: Schedule.Form.allCases)
  func factorsAreThoseOfTheFormula(form: Schedule.Form) {
    let schedule = Schedule(form, steps: Self.steps, warmUp: Self.warmUp)
    for step in Self.warmUp..<Self.steps {
      let share = Double(step - Self.warmUp) / Double(Self.steps - Self.warmUp)
      let error = Double(schedule.factor(at: step)) - formula(form, share)
      #expect(error.magnitude < 1e-6, "step \(step)")
    }
  }

  @Test(arguments: Schedule.Form.allCases)
  func theRateRisesLinearlyAtFirst(form: Schedule.Form) {
    let schedule = Schedule(form, steps: Self.steps, warmUp: Self.warmUp)
    for step in 0..<Self.warmUp {
      #expect(schedule.factor(at: step) == Float(step + 1) / Float(Self.warmUp + 1))
    }
    #expect(schedule.factor(at: Self.warmUp) == 1)
    #expect(Schedule(form, steps: 5, warmUp: 0).factor(at: 0) == 1)
  }

  @Test(arguments: Schedule.Form.allCases)
  func theRateNeverRisesAfterwards(form: Schedule.Form) {
    let schedule = Schedule(form, steps: Self.steps, warmUp: Self.warmUp)
    for step in Self.warmUp..<Self.steps {
      #expect(schedule.factor(at: step + 1) <= schedule.factor(at: step), "step \(step)")
    }
  }

  @Test func aPlateauHalvesTheRate() {
    var schedule = Schedule(.plateau, steps: 100, warmUp: 0)
    func note(_ losses: [Double]) -> Float {
      for loss in losses { schedule.note(heldOutLoss: loss) }
      return schedule.factor(at: 50)
    }
    #expect(note([4, 3, 3, 3.5]) == 1)
    #expect(note([3]) == 0.5)
    // The count of measurements begins again, with the halving as with a better loss.
    #expect(note([3, 3]) == 0.5)
    #expect(note([2, 2, 2]) == 0.5)
    #expect(note([2]) == 0.25)
  }

  @Test(arguments: [Schedule.Form.constant, .step, .exponential, .cosine])
  func otherFormsIgnoreTheLoss(form: Schedule.Form) {
    var schedule = Schedule(form, steps: 100, warmUp: 0)
    let before = schedule
    for _ in 0..<10 { schedule.note(heldOutLoss: 1) }
    #expect(schedule == before)
  }
}
