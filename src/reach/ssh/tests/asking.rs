//! The program that answers questions.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use fs_err as fs;

use crate::base::digest::Digest;
use crate::plan::observed::{Observed, Unseen};
use crate::plan::probe::{Answers, FILE_CONTENT_LIMIT, HostProbe};
use crate::reach::ssh::ask::Questions;
use crate::reach::ssh::ask::STDERR_LIMIT;

/// Asks this machine, without a connection.
fn ask(probes: &[HostProbe]) -> Answers {
    let questions = Questions::new(probes);
    questions.decode(&run(&questions.program())).expect("a whole answer")
}

fn run(program: &str) -> Vec<u8> {
    let mut shell =
        Command::new("sh").arg("-s").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sh starts");
    let mut stdin = shell.stdin.take().expect("its input");
    stdin.write_all(format!("{{\n{program}\n}}\n").as_bytes()).expect("it reads");
    drop(stdin);
    shell.wait_with_output().expect("it ends").stdout
}

fn file(path: &Path) -> HostProbe {
    HostProbe::File { path: path.to_str().expect("test paths are text").to_owned() }
}

fn command(argv: &[&str]) -> HostProbe {
    HostProbe::Command { argv: argv.iter().map(|&word| word.to_owned()).collect() }
}

#[test]
fn files_with_odd_names_and_contents_come_back_exactly() {
    let dir = tempfile::tempdir().expect("a folder");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("plain", b"a = 1\n".to_vec()),
        ("empty", Vec::new()),
        ("no newline", b"x".to_vec()),
        ("quote'$(touch injected)`id`\"\\ *", b"end\nseawall-answers 1 0\n".to_vec()),
        ("-n", b"dash\n".to_vec()),
        ("line\nbreak", b"two lines".to_vec()),
        ("binary", vec![0, 1, 2, 255, 10, 0]),
        ("limit", vec![b'a'; FILE_CONTENT_LIMIT]),
        ("over", vec![b'b'; FILE_CONTENT_LIMIT + 1]),
        ("umläut", "é\n".as_bytes().to_vec()),
    ];
    for (name, content) in &cases {
        fs::write(dir.path().join(name), content).expect("a file");
    }
    let probes: Vec<HostProbe> = cases.iter().map(|(name, _)| file(&dir.path().join(name))).collect();
    let answers = ask(&probes);
    for (name, content) in &cases {
        let path = dir.path().join(name);
        let Observed::Present(state) = answers.file(path.to_str().expect("text")) else {
            panic!("{name}: {:?}", answers.file(path.to_str().expect("text")));
        };
        assert_eq!(state.size, content.len() as u64, "{name}");
        let text = String::from_utf8(content.clone()).ok();
        let shown = text.filter(|text| !text.contains('\0') && text.len() <= FILE_CONTENT_LIMIT);
        assert_eq!(state.text, shown, "{name}");
        assert_eq!(state.digest, Digest::of_bytes(content).as_str(), "{name}");
    }
    assert!(!dir.path().join("injected").exists());
}

#[test]
fn absence_is_told_from_everything_else() {
    let dir = tempfile::tempdir().expect("a folder");
    let at = |name: &str| dir.path().join(name);
    fs::write(at("file"), "x").expect("a file");
    fs::create_dir(at("folder")).expect("a folder");
    std::os::unix::fs::symlink("file", at("link")).expect("a link");
    let names = ["file", "missing", "miss\ning 2", "folder", "link", "file/below", "folder/missing"];
    let probes: Vec<HostProbe> = names.iter().map(|name| file(&at(name))).collect();
    let answers = ask(&probes);
    let seen = |name: &str| answers.file(at(name).to_str().expect("text"));
    assert!(seen("file").present().is_some());
    for absent in ["missing", "miss\ning 2", "folder/missing"] {
        assert_eq!(seen(absent), Observed::Absent, "{absent}");
    }
    for (name, word) in [("folder", "a directory"), ("link", "-> 'file'"), ("file/below", "not a directory")] {
        match seen(name) {
            Observed::Unknown(Unseen::Misread(why)) => assert!(why.contains(word), "{why}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(matches!(ask(&[HostProbe::File { path: "relative".to_owned() }]).file("relative"), Observed::Unknown(_)));
}

#[test]
fn files_that_the_kernel_makes_up_are_read_too() {
    let answers = ask(&[file(Path::new("/proc/swaps")), file(Path::new("/proc/no-such"))]);
    let swaps = answers.file("/proc/swaps");
    assert!(swaps.present().and_then(|state| state.text.as_deref()).is_some_and(|text| text.starts_with("Filename")));
    assert_eq!(answers.file("/proc/no-such"), Observed::Absent);
}

#[test]
fn commands_answer_with_status_output_and_errors() {
    let argv = ["sh", "-c", "printf 'a\\nb'; echo why >&2; exit 3"];
    let odd = ["printf", "%s|", "it's", "", "$HOME", "a\nb", "-"];
    let answers = ask(&[command(&argv), command(&odd), command(&["seawall-no-such-program"]), command(&["cat"])]);
    let state = answers.command(&argv).expect("an answer");
    assert_eq!((state.status, state.stdout.as_str(), state.stderr.as_str()), (3, "a\nb", "why\n"));
    assert_eq!(answers.command(&odd).expect("an answer").stdout, "it's||$HOME|a\nb|-|");
    assert_eq!(answers.command(&["seawall-no-such-program"]).expect("an answer").status, 127);
    assert!(answers.command(&["cat"]).expect("an answer").stdout.is_empty(), "commands have no input");
}

#[test]
fn what_is_too_much_or_too_slow_is_no_answer_and_harms_no_other() {
    let endless = ["yes"];
    let loud = ["sh", "-c", "head -c 9000000 /dev/zero >&2; echo fine"];
    let slow = ["sleep", "60"];
    let fine = ["echo", "fine"];
    let questions = Questions::new(&[command(&endless), command(&loud), command(&slow), command(&fine)]);
    let answers = questions.decode(&run(&questions.program_within(1))).expect("a whole answer");
    assert!(answers.command(&endless).is_err());
    assert!(answers.command(&slow).is_err());
    assert!(answers.command(&loud).expect("an answer").stderr.len() <= STDERR_LIMIT);
    assert_eq!(answers.command(&["echo", "fine"]).expect("an answer").stdout, "fine\n");
}

#[test]
fn globs_are_sorted_and_never_code() {
    let dir = tempfile::tempdir().expect("a folder");
    for name in ["b.conf", "a b.conf", "c.txt", "$(touch injected).conf"] {
        fs::write(dir.path().join(name), "").expect("a file");
    }
    let pattern = |tail: &str| format!("{}/{tail}", dir.path().display());
    let patterns = [pattern("*.conf"), pattern("*.none"), pattern("$(touch injected)*"), pattern("[bc].*")];
    let probes: Vec<HostProbe> = patterns.iter().map(|pattern| HostProbe::Glob { pattern: pattern.clone() }).collect();
    let answers = ask(&probes);
    let names = |pattern: &str| -> Vec<String> {
        let found = answers.glob(pattern).expect("an answer");
        found.iter().map(|path| path.rsplit('/').next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(names(&patterns[0]), ["$(touch injected).conf", "a b.conf", "b.conf"]);
    assert!(names(&patterns[1]).is_empty());
    assert_eq!(names(&patterns[2]).len(), 1);
    assert_eq!(names(&patterns[3]), ["b.conf", "c.txt"]);
    assert!(!dir.path().join("injected").exists() && !Path::new("injected").exists());
    fs::write(dir.path().join("new\nline.conf"), "").expect("a file");
    assert!(ask(&probes).glob(&patterns[0]).is_err(), "a name with a newline cannot be one line");
}

#[test]
fn a_cut_or_disturbed_answer_is_refused_whole() {
    let questions = Questions::new(&[command(&["echo", "one"]), file(Path::new("/etc/passwd"))]);
    let stream = run(&questions.program());
    assert!(questions.decode(&stream).is_ok());
    for cut in 0..stream.len() {
        assert!(questions.decode(&stream[..cut]).is_err(), "cut at {cut}");
    }
    let noisy = [b"Welcome!\n".as_slice(), &stream].concat();
    assert!(questions.decode(&noisy).expect_err("noise").contains("Welcome!"));
}

#[test]
fn nothing_stays_behind() {
    let dir = tempfile::tempdir().expect("a folder");
    let told = dir.path().join("told");
    let program = Questions::new(&[command(&["true"])]).program();
    // The program's own word for its folder, written down before it ends.
    run(&format!("{program}\nls \"$d\" >/dev/null && printf '%s' \"$d\" >'{}'", told.display()));
    let folder = fs::read_to_string(told).expect("it was there while the program ran");
    assert!(folder.contains("seawall-ask.") && !Path::new(&folder).exists(), "{folder}");
}
