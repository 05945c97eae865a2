//! What is particular to a drill on a fresh instance: the clock goes on where a copy beside the database has nothing to wait
//! for.

use crate::base::diag::Diagnostic;
use crate::plan::drills::Lasted;
use crate::plan::rebuild::Step;
use crate::plan::restores::Told;

/// Seconds of an hour, as Lightsail bills.
const HOUR_S: u64 = 3_600;

/// What was seen beside what the fresh server told. Times are by its clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fresh {
    /// Parts of the work, each with the second in which it began.
    pub steps: Vec<Step>,
    /// When clients could have been let in.
    pub served: Option<i64>,
    /// The objective for a rebuild, in seconds.
    pub rebuild_s: Option<u64>,
    /// List price of an hour, in thousandths of a US cent.
    pub hourly_millicents: Option<u64>,
    /// What the times do not hold.
    pub remarks: Vec<String>,
}

impl Fresh {
    /// The parts of the work and the phases of the restore on one clock, without a gap: each lasts until the next begins.
    pub(super) fn phases(&self, began: i64, ended: i64, told: &Told) -> Vec<Lasted> {
        let steps = self.steps.iter().map(|step| (step.began, step.name.as_str()));
        let mut all: Vec<(i64, &str)> =
            steps.chain(told.phases.iter().map(|phase| (phase.began, phase.name.as_str()))).collect();
        all.sort_by_key(|(at, _)| *at);
        // Two clocks that were compared to the second may differ by one.
        for (at, _) in &mut all {
            *at = (*at).clamp(began, ended.max(began));
        }
        if let Some(first) = all.first_mut() {
            first.0 = began;
        }
        let ends = all.iter().skip(1).map(|(at, _)| *at).chain([ended]);
        all.iter().zip(ends).map(|((at, name), end)| Lasted { name: (*name).to_owned(), seconds: end - at }).collect()
    }

    /// Thousandths of a US cent for so many seconds; hours that were begun are whole.
    pub(super) fn cost_millicents(&self, seconds: i64) -> Option<u64> {
        let hours = u64::try_from(seconds).ok()?.div_ceil(HOUR_S).max(1);
        self.hourly_millicents.map(|price| price * hours)
    }

    pub(super) fn too_slow(&self, serve_s: Option<i64>) -> Option<Diagnostic> {
        let (serve, wanted) = (serve_s?, self.rebuild_s?);
        let late = i64::try_from(wanted).is_ok_and(|wanted| serve > wanted);
        late.then(|| {
            Diagnostic::error(
                "rebuild-too-slow",
                format!("the fresh server could serve after {serve} s, and {wanted} s are the objective for a rebuild"),
            )
            .hint("the phases show what took the time")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_leave_no_second_out_and_begun_hours_are_paid_for() {
        let step = |name: &str, began: i64| Step { name: name.to_owned(), began };
        let fresh = Fresh {
            steps: vec![step("server", 101), step("restore", 200), step("rest", 260), step("remove", 310)],
            hourly_millicents: Some(1_644),
            rebuild_s: Some(200),
            ..Fresh::default()
        };
        let told = Told::read(
            "210 phase check\n220 phase fetch\n250 phase look\n259 finished\n290 phase verify\n305 finished\n",
        );
        let phases: Vec<(String, i64)> =
            fresh.phases(100, 330, &told).into_iter().map(|phase| (phase.name, phase.seconds)).collect();
        let expected = [
            ("server", 100),
            ("restore", 10),
            ("check", 10),
            ("fetch", 30),
            ("look", 10),
            ("rest", 30),
            ("verify", 20),
            ("remove", 20),
        ];
        assert_eq!(phases, expected.map(|(name, seconds)| (name.to_owned(), seconds)));
        assert_eq!(phases.iter().map(|(_, seconds)| seconds).sum::<i64>(), 230);
        assert_eq!((fresh.cost_millicents(1), fresh.cost_millicents(3_601)), (Some(1_644), Some(3_288)));
        assert_eq!(fresh.too_slow(Some(200)), None);
        assert_eq!(fresh.too_slow(Some(201)).map(|miss| miss.code).as_deref(), Some("rebuild-too-slow"));
    }
}
