//! When something runs, as a person says it: `daily 06:00`, `Mon..Sat 02:00`, `Sun 02:00`, `hourly :15`, `monthly 1 03:00`.
//!
//! All times are UTC. Every schedule can also say its longest gap, from which staleness limits follow.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::inventory::scalar::{BadScalar, TimeSpan, text_scalar};

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const HOUR: u64 = 3_600;
const DAY: u64 = 86_400;

/// A schedule in UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Schedule {
    text: String,
    when: When,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum When {
    Hourly { minute: u8 },
    Weekly { days: [bool; 7], hour: u8, minute: u8 },
    Monthly { day: u8, hour: u8, minute: u8 },
}

text_scalar!(
    Schedule,
    "seawall-schedule",
    "when, in UTC: daily 06:00, Mon..Sat 02:00, Mon,Thu 02:00, hourly :15, monthly 1 03:00"
);

impl Schedule {
    /// The same as systemd's `OnCalendar=` has it, in the form in which systemd prints it again.
    pub fn on_calendar(&self) -> String {
        match &self.when {
            When::Hourly { minute } => format!("*-*-* *:{minute:02}:00 UTC"),
            When::Weekly { days, hour, minute } if days.iter().all(|on| *on) => {
                format!("*-*-* {hour:02}:{minute:02}:00 UTC")
            }
            When::Weekly { days, hour, minute } => {
                format!("{} *-*-* {hour:02}:{minute:02}:00 UTC", day_names(*days))
            }
            When::Monthly { day, hour, minute } => format!("*-*-{day:02} {hour:02}:{minute:02}:00 UTC"),
        }
    }

    /// The longest time between two runs that are on time.
    pub fn longest_gap(&self) -> TimeSpan {
        let seconds = match &self.when {
            When::Hourly { .. } => HOUR,
            When::Weekly { days, .. } => {
                let on: Vec<u64> = (0..7).filter(|day| days[*day]).map(|day| day as u64).collect();
                let wrapped = on.first().map_or(7, |first| first + 7);
                let next = on.iter().skip(1).copied().chain([wrapped]);
                on.iter().zip(next).map(|(a, b)| b - a).max().unwrap_or(7) * DAY
            }
            When::Monthly { .. } => 31 * DAY,
        };
        TimeSpan::from_seconds(seconds)
    }
}

impl Schedule {
    /// Whether both have a turn at the same minute of some day.
    pub fn collides(&self, other: &Self) -> bool {
        let at = |when: &When| match when {
            When::Hourly { minute } => (None, *minute),
            When::Weekly { hour, minute, .. } | When::Monthly { hour, minute, .. } => (Some(*hour), *minute),
        };
        let ((a, minute), (b, other_minute)) = (at(&self.when), at(&other.when));
        let days = match (&self.when, &other.when) {
            (When::Weekly { days: a, .. }, When::Weekly { days: b, .. }) => a.iter().zip(b).any(|(a, b)| *a && *b),
            (When::Monthly { day: a, .. }, When::Monthly { day: b, .. }) => a == b,
            // A day of the month is every day of the week in some month.
            _ => true,
        };
        days && minute == other_minute && (a.is_none() || b.is_none() || a == b)
    }

    /// The longest time between two runs of either of two schedules, both on time.
    pub fn longest_gap_with(&self, other: &Self) -> TimeSpan {
        let (When::Weekly { days: a, hour: ah, minute: am }, When::Weekly { days: b, hour: bh, minute: bm }) =
            (&self.when, &other.when)
        else {
            // An hourly one decides by itself. With a monthly one this is an upper bound.
            return self.longest_gap().min(other.longest_gap());
        };
        let mut runs: Vec<u64> = Vec::new();
        for (days, hour, minute) in [(a, ah, am), (b, bh, bm)] {
            let at = u64::from(*hour) * HOUR + u64::from(*minute) * 60;
            runs.extend((0..7).filter(|day| days[*day]).map(|day| day as u64 * DAY + at));
        }
        runs.sort_unstable();
        let wrapped = runs.first().map_or(7 * DAY, |first| first + 7 * DAY);
        let next = runs.iter().skip(1).copied().chain([wrapped]);
        TimeSpan::from_seconds(runs.iter().zip(next).map(|(a, b)| b - a).max().unwrap_or(7 * DAY))
    }

    /// The same days at another time, six hours away; an hourly one is half an hour away. Two that read everything there is do
    /// not meet then.
    #[must_use]
    pub fn apart(&self) -> Self {
        let days = self.text.rsplit_once(' ').map_or("", |(days, _)| days);
        let away = |hour: u8| if hour < 18 { hour + 6 } else { hour - 6 };
        let text = match &self.when {
            When::Hourly { minute } => format!("hourly :{:02}", (minute + 30) % 60),
            When::Weekly { hour, minute, .. } | When::Monthly { hour, minute, .. } => {
                format!("{days} {:02}:{minute:02}", away(*hour))
            }
        };
        text.parse().expect("another time of day makes it no worse")
    }

    /// How often it has a turn, as the words of generations know it.
    pub fn period(&self) -> Period {
        match &self.when {
            When::Monthly { .. } => Period::Month,
            When::Weekly { days, .. } if days.iter().filter(|on| **on).count() == 1 => Period::Week,
            When::Weekly { .. } | When::Hourly { .. } => Period::Day,
        }
    }
}

/// How often something has a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// Once a month.
    Month,
    /// Once a week.
    Week,
    /// On several days of a week, or more often.
    Day,
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Schedule {
    type Err = BadScalar;

    fn from_str(text: &str) -> Result<Self, BadScalar> {
        let words: Vec<&str> = text.split(' ').collect();
        let when = match words.as_slice() {
            ["hourly"] => Some(When::Hourly { minute: 0 }),
            ["hourly", at] => {
                at.strip_prefix(':').and_then(|minute| number(minute, 2, 0, 59)).map(|minute| When::Hourly { minute })
            }
            ["monthly", day, at] => clock(at)
                // Days after the 28th do not come every month.
                .zip(number(day, day.len().clamp(1, 2), 1, 28))
                .map(|((hour, minute), day)| When::Monthly { day, hour, minute }),
            [days, at] => {
                clock(at).zip(weekdays(days)).map(|((hour, minute), days)| When::Weekly { days, hour, minute })
            }
            _ => None,
        };
        match when {
            Some(when) => Ok(Self { text: text.to_owned(), when }),
            None => Err(BadScalar(format!(
                "`{text}` is not a schedule; write for example `daily 06:00`, `Mon..Sat 02:00`, `hourly :15` or \
                 `monthly 1 03:00` (UTC)"
            ))),
        }
    }
}

/// Days as systemd prints them: three and more in a row are a range.
fn day_names(days: [bool; 7]) -> String {
    let mut parts = Vec::new();
    let mut day = 0;
    while day < 7 {
        let run = days[day..].iter().take_while(|on| **on).count();
        match run {
            0 => day += 1,
            1 | 2 => parts.extend(DAYS[day..day + run].iter().map(ToString::to_string)),
            _ => parts.push(format!("{}..{}", DAYS[day], DAYS[day + run - 1])),
        }
        day += run;
    }
    parts.join(",")
}

fn number(text: &str, digits: usize, least: u8, most: u8) -> Option<u8> {
    let plain = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n| plain && (least..=most).contains(n))
}

fn clock(text: &str) -> Option<(u8, u8)> {
    let (hour, minute) = text.split_once(':')?;
    Some((number(hour, 2, 0, 23)?, number(minute, 2, 0, 59)?))
}

fn weekdays(text: &str) -> Option<[bool; 7]> {
    if text == "daily" {
        return Some([true; 7]);
    }
    let mut days = [false; 7];
    let index = |name: &str| DAYS.iter().position(|day| *day == name);
    for part in text.split(',') {
        let (first, last) = part.split_once("..").unwrap_or((part, part));
        let (first, last) = (index(first)?, index(last)?);
        if first > last {
            return None;
        }
        for day in &mut days[first..=last] {
            if std::mem::replace(day, true) {
                return None;
            }
        }
    }
    Some(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_time_of_the_same_days_never_collides() {
        for (text, wanted) in [
            ("Sun 02:00", "Sun 08:00"),
            ("Mon..Sat 23:10", "Mon..Sat 17:10"),
            ("daily 18:00", "daily 12:00"),
            ("monthly 1 03:00", "monthly 1 09:00"),
            ("hourly :45", "hourly :15"),
            ("hourly", "hourly :30"),
        ] {
            let schedule: Schedule = text.parse().expect("a schedule");
            assert_eq!(schedule.apart().to_string(), wanted);
            assert!(!schedule.collides(&schedule.apart()) && schedule.longest_gap() == schedule.apart().longest_gap());
        }
    }

    #[test]
    fn says_the_same_to_systemd() {
        for (text, calendar, gap) in [
            ("daily 06:00", "*-*-* 06:00:00 UTC", "1d"),
            ("Sun 02:00", "Sun *-*-* 02:00:00 UTC", "7d"),
            ("Mon..Sat 02:00", "Mon..Sat *-*-* 02:00:00 UTC", "2d"),
            ("Mon,Tue,Thu..Sat,Sun 02:00", "Mon,Tue,Thu..Sun *-*-* 02:00:00 UTC", "2d"),
            ("Mon,Thu 23:59", "Mon,Thu *-*-* 23:59:00 UTC", "4d"),
            ("hourly", "*-*-* *:00:00 UTC", "1h"),
            ("hourly :15", "*-*-* *:15:00 UTC", "1h"),
            ("monthly 1 03:00", "*-*-01 03:00:00 UTC", "31d"),
        ] {
            let schedule: Schedule = text.parse().expect(text);
            assert_eq!(schedule.to_string(), text);
            assert_eq!(schedule.on_calendar(), calendar);
            assert_eq!(schedule.longest_gap().to_string(), gap, "{text}");
        }
    }

    #[test]
    fn two_schedules_meet_or_do_not() {
        let meet = |a: &str, b: &str| {
            let (a, b): (Schedule, Schedule) = (a.parse().expect(a), b.parse().expect(b));
            assert_eq!(a.collides(&b), b.collides(&a));
            a.collides(&b)
        };
        assert!(!meet("Sun 02:00", "Mon..Sat 02:00"));
        assert!(!meet("daily 02:00", "daily 03:00"));
        assert!(!meet("daily 02:15", "hourly :00"));
        assert!(!meet("monthly 1 02:00", "monthly 15 02:00"));
        assert!(meet("daily 02:00", "hourly :00"));
        assert!(meet("Sun 02:00", "daily 02:00"));
        assert!(meet("monthly 1 02:00", "Sun 02:00"));
    }

    #[test]
    fn two_schedules_fill_each_others_gaps() {
        for (one, other, gap) in [
            ("Sun 02:00", "Mon..Sat 02:00", "1d"),
            ("Sun 02:00", "Mon..Fri 02:00", "2d"),
            ("Sun 02:00", "Sun 14:00", "156h"),
            ("daily 00:00", "daily 12:00", "12h"),
            ("monthly 1 03:00", "daily 02:00", "1d"),
            ("Sun 02:00", "hourly", "1h"),
        ] {
            let parse = |text: &str| text.parse::<Schedule>().expect("a schedule");
            assert_eq!(parse(one).longest_gap_with(&parse(other)).to_string(), gap, "{one}, {other}");
            assert_eq!(parse(other).longest_gap_with(&parse(one)).to_string(), gap, "{other}, {one}");
        }
    }

    #[test]
    fn refuses_what_would_be_guessed() {
        for bad in [
            "",
            "02:00",
            "daily",
            "daily 6:00",
            "daily 24:00",
            "daily 02:60",
            "Sat..Mon 02:00",
            "Mon,Mon 02:00",
            "mon 02:00",
            "hourly 15",
            "hourly :60",
            "monthly 29 03:00",
            "monthly 0 03:00",
            "0 2 * * *",
            "daily  06:00",
            "é é é",
        ] {
            assert!(bad.parse::<Schedule>().is_err(), "{bad}");
        }
    }
}
