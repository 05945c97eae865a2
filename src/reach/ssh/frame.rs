//! The frame of a host's answer: its parts by name, and what each question took.

use std::collections::BTreeMap;
use std::time::Duration;

/// What a question took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cost {
    pub(super) wall_ms: u64,
    pub(super) cpu_ms: u64,
}

/// Processor time of the programs that a shell waited for, in milliseconds: the second line that `times` prints, such as
/// `0m0.120000s 0m0.030000s`.
fn children_ms(times: &str) -> Option<u64> {
    let ms = |word: &str| {
        let (minutes, seconds) = word.strip_suffix('s')?.split_once('m')?;
        let seconds = Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?;
        Some(minutes.parse::<u64>().ok()? * 60_000 + u64::try_from(seconds.as_millis()).ok()?)
    };
    times.lines().nth(1)?.split_whitespace().map(ms).sum()
}

/// The parts of an answer by name.
pub(super) struct Parts<'a> {
    bytes: BTreeMap<&'a str, &'a [u8]>,
    /// When each was last written, in nanoseconds.
    times: BTreeMap<&'a str, u64>,
}

impl<'a> Parts<'a> {
    pub(super) fn read(stream: &'a [u8]) -> Result<Self, String> {
        let (header, mut rest) = line(stream).ok_or("no answer came")?;
        let count: usize =
            header.strip_prefix("seawall-answers 2 ").and_then(|count| count.parse().ok()).ok_or_else(|| {
                format!("something else is printed first, perhaps by a login shell: `{}`", header.escape_debug())
            })?;
        let (mut sizes, mut times) = (Vec::new(), BTreeMap::new());
        for _ in 0..count {
            let (entry, after) = line(rest).ok_or("the answer is cut")?;
            let mut words = entry.splitn(3, ' ');
            let (Some(size), Some(time), Some(name)) = (words.next(), words.next(), words.next()) else {
                return Err("a part has no name".to_owned());
            };
            // Seconds with nine places. A time is for the log only: one that cannot be read is no reason to refuse.
            times.extend(time.replace('.', "").parse::<u64>().ok().map(|time| (name, time)));
            sizes.push((name, size.parse::<usize>().map_err(|error| error.to_string())?));
            rest = after;
        }
        let mut parts = BTreeMap::new();
        for (name, size) in sizes {
            let (part, after) = rest.split_at_checked(size).ok_or("the answer is cut")?;
            parts.insert(name, part);
            rest = after;
        }
        if rest == b"end\n" {
            Ok(Self { bytes: parts, times })
        } else {
            Err("the answer does not end where it should".to_owned())
        }
    }

    pub(super) fn get(&self, name: &str, part: &str) -> Option<&'a [u8]> {
        self.bytes.get(format!("{name}.{part}").as_str()).copied()
    }

    /// What each question took, by number. A worker's processor time counts all its questions until then.
    pub(super) fn costs(&self, count: usize) -> Vec<Cost> {
        let at = |number: usize, part: &str| self.times.get(format!("{number}.{part}").as_str()).copied();
        let mut ended: Vec<(u64, usize)> = (0..count).filter_map(|number| Some((at(number, "cpu")?, number))).collect();
        ended.sort_unstable();
        let mut costs = vec![Cost::default(); count];
        let mut until: BTreeMap<String, u64> = BTreeMap::new();
        for (end, number) in ended {
            let text = self.words(&number.to_string(), "cpu");
            let Some((worker, times)) = text.split_once('\n') else { continue };
            let Some(cpu) = children_ms(times) else { continue };
            let before = until.insert(worker.to_owned(), cpu).unwrap_or_default();
            let wall_ms = end.saturating_sub(at(number, "t").unwrap_or(end)) / 1_000_000;
            costs[number] = Cost { wall_ms, cpu_ms: cpu.saturating_sub(before) };
        }
        costs
    }

    pub(super) fn words(&self, name: &str, part: &str) -> String {
        String::from_utf8_lossy(self.get(name, part).unwrap_or_default()).into_owned()
    }

    /// How a question's program ended, where it did.
    pub(super) fn status(&self, name: &str) -> Option<i32> {
        self.words(name, "st").trim().parse().ok()
    }

    pub(super) fn whole(&self, name: &str) -> &'a [u8] {
        self.bytes.get(name).copied().unwrap_or_default()
    }
}

/// The first line as text, and what follows it.
fn line(stream: &[u8]) -> Option<(&str, &[u8])> {
    let end = stream.iter().position(|&byte| byte == b'\n')?;
    Some((std::str::from_utf8(&stream[..end]).ok()?, &stream[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_as_shells_print_it() {
        // dash, and bash as sh.
        assert_eq!(children_ms("0m0.000000s 0m0.000000s\n0m0.120000s 0m0.030000s\n"), Some(150));
        assert_eq!(children_ms("0m0.001s 0m0.002s\n1m2.500s 0m0.001s\n"), Some(62_501));
        assert_eq!(children_ms("0m0.1s\n"), None);
    }

    #[test]
    fn a_worker_counts_on() {
        let cpu = |worker: &str, ms: u32| format!("{worker}\n0m0s 0m0s\n0m0.{ms:03}s 0m0s\n");
        let (first, second, other) = (cpu("0", 20), cpu("0", 50), cpu("1", 5));
        let bytes = [("0.cpu", &first), ("1.cpu", &second), ("2.cpu", &other)];
        let times = [("0.t", 1), ("0.cpu", 31), ("1.t", 31), ("1.cpu", 80), ("2.t", 1), ("2.cpu", 7)];
        let parts = Parts {
            bytes: bytes.iter().map(|(name, text)| (*name, text.as_bytes())).collect(),
            times: times.iter().map(|(name, ms)| (*name, ms * 1_000_000)).collect(),
        };
        let cost = |wall_ms, cpu_ms| Cost { wall_ms, cpu_ms };
        assert_eq!(parts.costs(4), [cost(30, 20), cost(49, 30), cost(6, 5), Cost::default()]);
    }
}
