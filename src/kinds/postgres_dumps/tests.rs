//! What the program on the server does, by its own text: what it keeps of many histories, what it takes for a good dump, and
//! how it asks the bucket.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use jiff::civil::{Date, date};
use jiff::{Span, ToSpan as _};

use super::*;
use crate::kinds::programs;
use crate::kinds::programs::tests::Bench;

fn wanted() -> Desired {
    Desired {
        address: "postgres.dumps/db".parse().expect("an address"),
        cluster: Cluster { version: 15 },
        databases: vec!["chronos_db".to_owned(), "shop".to_owned()],
        bucket: "project-chronos-backups".to_owned(),
        folder: "chronos/dumps".to_owned(),
        region: "ca-central-1".to_owned(),
        calendar: "*-*-* 03:30:00 UTC".to_owned(),
        longest_gap: 86_400,
        keep: Generations { daily: 7, weekly: 4, monthly: 12 },
        schema_only: Vec::new(),
        tables: BTreeMap::new(),
    }
}

/// The program as it is on a server.
struct Program(tempfile::TempDir);

impl Program {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let program = parts_of(&wanted()).files.into_iter().find(|file| file.path == PROGRAM).expect("the program");
        let path = folder.path().join("dump");
        std::fs::write(&path, program.text).expect("a temporary folder is writable");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("the file is ours");
        Self(folder)
    }

    /// What ends with status 0 prints.
    fn keep(&self, (daily, weekly, monthly): (usize, usize, usize), names: &[String]) -> BTreeSet<String> {
        let mut child = Command::new("sh")
            .arg(self.0.path().join("dump"))
            .arg("keep")
            .args([daily, weekly, monthly].map(|count| count.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh runs");
        let text: String = names.iter().flat_map(|name| [name.as_str(), "\n"]).collect();
        child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("sh reads");
        let ended = child.wait_with_output().expect("sh ends");
        assert!(ended.status.success());
        let printed = String::from_utf8(ended.stdout).expect("names");
        let lines: Vec<String> = printed.lines().map(str::to_owned).collect();
        let kept: BTreeSet<String> = lines.iter().cloned().collect();
        assert_eq!(lines.len(), kept.len(), "a name is printed once");
        kept
    }

    fn status(&self, words: &[&str]) -> Option<i32> {
        let mut command = Command::new("sh");
        command.arg(self.0.path().join("dump")).args(words).stdin(Stdio::null()).stderr(Stdio::null());
        command.status().expect("sh runs").code()
    }
}

fn name(day: Date, hour: u32) -> String {
    format!("{}T{hour:02}3000Z.dump.enc", day.strftime("%Y%m%d"))
}

/// The year and the day, week or month that a day belongs to.
type Period = fn(Date) -> (i16, i16);

/// The same rule, by the calendar of another library.
fn model((daily, weekly, monthly): (usize, usize, usize), history: &[(Date, u32)]) -> BTreeSet<String> {
    let mut newest_first = history.to_vec();
    newest_first.sort_unstable_by(|a, b| b.cmp(a));
    let mut kept: BTreeSet<String> = newest_first.iter().take(1).map(|(day, hour)| name(*day, *hour)).collect();
    let periods: [(usize, Period); 3] = [
        (daily, |day| (day.year(), day.day_of_year())),
        (weekly, |day| (day.iso_week_date().year(), day.iso_week_date().week().into())),
        (monthly, |day| (day.year(), day.month().into())),
    ];
    for (count, period) in periods {
        let mut seen = BTreeSet::new();
        for (day, hour) in &newest_first {
            if seen.insert(period(*day)) && seen.len() <= count {
                kept.insert(name(*day, *hour));
            }
        }
    }
    kept
}

/// Numbers that look like chance and are the same in every run (Knuth's MMIX generator).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn span(&mut self, days: u64) -> Span {
        i64::try_from(self.below(days)).expect("a few days").days()
    }
}

#[test]
fn what_is_kept_is_what_the_model_keeps() {
    let (program, mut numbers) = (Program::new(), Numbers(7));
    let limits = [(7, 4, 12), (1, 1, 1), (3, 1, 2), (2, 8, 1), (1, 2, 30)];
    let mut deleted = 0;
    for round in 0..150 {
        let limits = limits[round % limits.len()];
        // Around leap days, and years with 53 weeks.
        let mut day = date(1999, 1, 1) + numbers.span(14_000);
        let step = [2, 3, 12, 40][round % 4];
        let mut history = BTreeSet::new();
        for _ in 0..numbers.below(200) {
            let hour = u32::try_from(numbers.below(24)).expect("an hour");
            history.insert((day, hour));
            day += numbers.span(step);
        }
        let history: Vec<_> = history.into_iter().collect();
        let names: Vec<String> = history.iter().map(|(day, hour)| name(*day, *hour)).collect();
        let kept = program.keep(limits, &names);
        assert_eq!(kept, model(limits, &history), "round {round}, {limits:?}, of {names:#?}");
        deleted += names.len() - kept.len();
    }
    assert!(deleted > 1_000, "histories from which nothing goes prove nothing");
}

#[test]
fn thinning_day_by_day_ends_with_the_same_as_thinning_once() {
    let program = Program::new();
    let limits = (7, 4, 12);
    let mut there = Vec::new();
    let mut day = date(2023, 11, 20);
    for _ in 0..120 {
        there.push(name(day, 3));
        there = program.keep(limits, &there).into_iter().collect();
        assert_eq!(there.last(), Some(&name(day, 3)), "the newest stays");
        day += 1.day();
    }
    let seven: Vec<String> = (1..=7).rev().map(|back| name(day - back.days(), 3)).collect();
    assert_eq!(&there[there.len() - 7..], seven.as_slice());
    assert!(there.len() < 7 + 4 + 12, "{there:?}");
}

#[test]
fn what_is_not_of_our_making_and_the_newest_always_stay() {
    let program = Program::new();
    let names = [
        "20240101T033000Z.dump.enc",
        "20240102T033000Z.dump.enc",
        "before-the-move.dump.enc",
        "20249999T999999Z.dump.enc",
    ]
    .map(str::to_owned);
    let kept = program.keep((0, 0, 0), &names);
    assert_eq!(
        kept.into_iter().collect::<Vec<_>>(),
        ["20240102T033000Z.dump.enc", "20249999T999999Z.dump.enc", "before-the-move.dump.enc"]
    );
    assert_eq!(program.keep((7, 4, 12), &[]), BTreeSet::new());
}

#[test]
fn words_that_could_leave_their_folder_are_refused() {
    let program = Program::new();
    let time = "20240101T033000Z";
    for words in [
        &["restore", "../x", time][..],
        &["restore", "chronos_db", "../../../etc/pass"],
        &["restore", "", time],
        &["restore", "chronos_db", "20240101T033000Z/.."],
        &["globals", "*"],
        &["before", ""],
        &["before", "a/b"],
        &["before", "A"],
        &["keep", "7", "4"],
        &["keep", "7", "4", "x"],
        &[],
    ] {
        assert_eq!(program.status(words), Some(64), "{words:?}");
    }
}

/// The program with its configuration, in a folder that stands for the server.
fn bench() -> Bench {
    let conf = files::settings(&wanted());
    assert_eq!((conf.group, conf.mode), ("postgres", "0640"));
    Bench::new(programs::DUMP, &conf)
}

#[test]
fn only_a_dump_with_its_checksum_is_good() {
    let bench = bench();
    bench.write(
        "listing",
        "20240101T033000Z.dump.enc|10\n20240101T033000Z.dump.enc.sha256|90\n20240102T033000Z.dump.enc|11\n\
         20240103T033000Z.dump.enc.sha256|90\nshop/20240104T033000Z.dump.enc|12\nshop/20240104T033000Z.dump.enc.sha256|90\n\
         notes.txt|3\n../20240105T033000Z.dump.enc|1\n20240106T033000Z.before-it.dump.enc|13\n\
         20240106T033000Z.before-it.dump.enc.sha256|90\n20240107T033000Z.tables.enc|14\n20240107T033000Z.tables.enc.sha256|90\n",
    );
    let listing = bench.at("listing").display().to_string();
    let picked = |which: &str| bench.says(&format!("pick {which} <{listing}"));
    assert_eq!(
        picked("good"),
        "20240101T033000Z.dump.enc|10\n20240106T033000Z.before-it.dump.enc|13\n20240107T033000Z.tables.enc|14\n\
         shop/20240104T033000Z.dump.enc|12\n"
    );
    assert_eq!(picked("alone"), "20240102T033000Z.dump.enc\n20240103T033000Z.dump.enc.sha256\n");
}

#[test]
fn the_bucket_is_asked_with_the_key_in_the_environment_and_nowhere_else() {
    let bench = bench();
    bench.write("etc/pgbackrest/conf.d/key.conf", "[global]\nrepo1-s3-key=AKIAEXAMPLE\nrepo1-s3-key-secret=s3cret\n");
    bench.tool(
        "rclone",
        "printf '%s\\n' \"$*\"; env | grep -E '^RCLONE_CONFIG_S3_(REGION|ENDPOINT|ACCESS|SECRET)' | sort",
    );
    let said = bench.says("wish; listing -R \"S3:$target/\"; env | grep -c s3cret || true");
    assert_eq!(
        said,
        "--config  lsf --files-only --format ps --separator | -R S3:project-chronos-backups/chronos/dumps/\n\
         RCLONE_CONFIG_S3_ACCESS_KEY_ID=AKIAEXAMPLE\n\
         RCLONE_CONFIG_S3_ENDPOINT=https://s3.ca-central-1.amazonaws.com\n\
         RCLONE_CONFIG_S3_REGION=ca-central-1\n\
         RCLONE_CONFIG_S3_SECRET_ACCESS_KEY=s3cret\n0\n"
    );
    // A folder that is not there holds nothing; what is not known is an error.
    bench.tool("rclone", "exit 3");
    assert_eq!(bench.says("wish; listing x"), "");
    bench.tool("rclone", "exit 1");
    assert!(!bench.run("wish; listing x").status.success());
}

#[test]
fn everything_that_is_declared_is_dumped_and_one_failure_is_no_other_s() {
    let bench = bench();
    let text = "one() { echo \"$1 $2\"; [ \"$1\" != chronos_db ]; }; alone() { :; }; wish; run";
    let ended = bench.run(text);
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "chronos_db dump\nshop dump\n.globals sql\n");
    assert_eq!(ended.status.code(), Some(1));
    assert!(!bench.at("var/lib/postgresql/.seawall-dumped").exists(), "not everything was dumped");
    bench.says("one() { :; }; alone() { :; }; wish; run");
    assert!(bench.at("var/lib/postgresql/.seawall-dumped").exists());
}

/// Named ones are whole, whatever the schedule's are, and do not count for its mark.
#[test]
fn what_of_a_database_is_dumped_is_as_declared() {
    let tables = BTreeMap::from([("shop".to_owned(), vec!["public.orders".to_owned(), "public.lines".to_owned()])]);
    let conf = files::settings(&Desired { schema_only: vec!["chronos_db".to_owned()], tables, ..wanted() });
    let bench = Bench::new(programs::DUMP, &conf);
    let told = |run: &str| bench.says(&format!("one() {{ echo \"$1 $2\"; }}; alone() {{ :; }}; wish; {run}"));
    assert_eq!(told("run"), "chronos_db schema\nshop tables\n.globals sql\n");
    assert_eq!(told("tables_of shop; tables_of hop"), "public.orders\npublic.lines\n");
    std::fs::remove_file(bench.at("var/lib/postgresql/.seawall-dumped")).expect("the run left it");
    assert_eq!(told("before=it run"), "chronos_db dump\nshop dump\n.globals sql\n");
    assert!(!bench.at("var/lib/postgresql/.seawall-dumped").exists());
}

/// A dump with other rows is no newer version of one.
#[test]
fn only_dumps_of_one_sort_thin_each_other_out() {
    let bench = bench();
    let names: Vec<String> = ["dump", "schema", "before-it.dump"]
        .iter()
        .flat_map(|what| ["20240101T010000Z", "20240101T020000Z"].map(|time| format!("{time}.{what}.enc")))
        .collect();
    let lines: Vec<String> = names.iter().map(|name| format!("{name}|1\n{name}.sha256|1\n")).collect();
    bench.write("listing", &lines.concat());
    let text = format!(
        "listing() {{ cat {}; }}; bucket() {{ echo \"$3\"; }}; work={}; wish; thin chronos_db 20240101T020000Z.dump.enc",
        bench.at("listing").display(),
        bench.at("var/lib/postgresql").display()
    );
    let gone = "S3:project-chronos-backups/chronos/dumps/chronos_db/20240101T010000Z.dump.enc";
    assert_eq!(bench.says(&text), format!("{gone}.sha256\n{gone}\n"));
}
