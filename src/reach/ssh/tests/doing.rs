//! The program of a transaction and the text that launches it, with a plain process in the place of a unit.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use fs_err as fs;
use serde_json::json;

use crate::base::address::Address;
use crate::base::secret::{Secret, SecretRef};
use crate::base::shell::FOLDERS;
use crate::plan::step::{Content, HostStep};
use crate::reach::ssh::act::LAUNCH;
use crate::reach::ssh::event::{Frame, Frames};
use crate::reach::ssh::program::{Layout, Secrets, compile, record_name};
use crate::reach::{Transaction, TransactionStep};

/// Takes the place of `systemd.sh`.
const PLAIN: &str = r#"
unit_start() { setsid sh "$run/$id/program" >/dev/null 2>"$run/$id.said" & echo $! >"$run/$id.pid"; }
unit_active() { kill -0 "$(cat "$run/$1.pid" 2>/dev/null)" 2>/dev/null; }
unit_pid() { cat "$run/$id.pid" 2>/dev/null; }
"#;

/// A host in a folder.
pub(super) struct Host {
    pub(super) dir: tempfile::TempDir,
    owner: String,
    group: String,
}

impl Host {
    pub(super) fn new() -> Self {
        let told = |flag: &str| {
            let out = Command::new("id").arg(flag).output().expect("id runs").stdout;
            String::from_utf8(out).expect("text").trim().to_owned()
        };
        Self { dir: tempfile::tempdir().expect("a folder"), owner: told("-un"), group: told("-gn") }
    }

    pub(super) fn at(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    pub(super) fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.dir.path().join(name)).ok()
    }

    fn layout(&self) -> Layout {
        Layout { run: self.at("run"), state: self.at("state") }
    }

    pub(super) fn write(&self, name: &str, text: &str, validate: Option<&[&str]>) -> HostStep {
        HostStep::WriteFile {
            path: self.at(name),
            owner: self.owner.clone(),
            group: self.group.clone(),
            mode: "0640".to_owned(),
            content: Content::Text(text.to_owned()),
            validate: validate.map(|argv| argv.iter().map(|&word| word.to_owned()).collect()),
        }
    }

    /// Runs a transaction and gives its frames.
    pub(super) fn act(&self, id: &str, steps: Vec<HostStep>, secrets: &[Secrets]) -> Vec<Frame> {
        let steps = steps.into_iter().enumerate().map(|(index, step)| TransactionStep {
            address: Address::new("host.test", "db"),
            index,
            step,
        });
        let transaction = Transaction { id: id.to_owned(), guard_s: None, steps: steps.collect() };
        let (program, limit) = compile(&transaction, secrets, &self.layout()).expect("a program");
        self.launch(id, program.reveal(), 0, limit, true)
    }

    fn launch(&self, id: &str, program: &str, offset: u64, limit: u64, seen: bool) -> Vec<Frame> {
        let layout = self.layout();
        let mut shell = Command::new("sh")
            .args(["-c", &format!("{{\n{PLAIN}{FOLDERS}{LAUNCH}\n}}"), "seawall", id])
            .args([program.len().to_string(), offset.to_string(), layout.run, layout.state])
            .args(["kim@desk".to_owned(), limit.to_string(), "60".to_owned()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh starts");
        let mut stdin = shell.stdin.take().expect("its input");
        stdin.write_all(program.as_bytes()).expect("it reads");
        let mut stdout = shell.stdout.take().expect("its output");
        let (mut frames, mut read, mut buffer) = (Frames::from(offset), Vec::new(), vec![0; 4096]);
        let last = |frame: &Frame| matches!(frame, Frame::End(_) | Frame::Gone | Frame::Locked(_) | Frame::Refused(_));
        while !read.last().is_some_and(last) {
            let count = std::io::Read::read(&mut stdout, &mut buffer).expect("it prints");
            assert!(count > 0, "ended without a last word: {read:?}");
            frames.push(&buffer[..count]);
            while let Some(frame) = frames.next_frame().expect("our words") {
                read.push(frame);
            }
        }
        if seen {
            // Whoever was refused is not waited for.
            let _ = stdin.write_all(format!("seen {id}\n").as_bytes());
        }
        drop(stdin);
        shell.wait().expect("it ends");
        read
    }
}

fn run(argv: &[&str]) -> HostStep {
    HostStep::Run {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        env: [("WORD".to_owned(), "it's $HOME".to_owned())].into(),
        stdin: Some(Content::Text("given\n".to_owned())),
        timeout_s: 20,
        revert: None,
        what: "run a test".to_owned(),
    }
}

#[test]
fn steps_are_done_in_order_and_leave_a_journal_and_pre_images() {
    let host = Host::new();
    fs::write(host.dir.path().join("old"), "before").expect("a file");
    fs::write(host.dir.path().join("bye"), "kept").expect("a file");
    let record =
        HostStep::Record { address: Address::new("host.test", "a b"), desired: Some(json!({ "quote": "it's" })) };
    let steps = vec![
        host.write("old", "after 'quoted' $(id)\n\n", Some(&["test", "-s", "{}"])),
        host.write("Xorg.XXXX", "", None),
        HostStep::RemoveFile { path: host.at("bye") },
        HostStep::RemoveFile { path: host.at("never was") },
        HostStep::MakeDirectory {
            path: host.at("folder"),
            owner: host.owner.clone(),
            group: host.group.clone(),
            mode: "0750".to_owned(),
        },
        run(&["sh", "-c", "printf '%s %s' \"$WORD\" \"$(cat)\" > \"$0\"", &host.at("ran")]),
        record,
    ];
    let frames = host.act("t-1", steps, &[]);
    let mut wanted = vec![Frame::Started];
    wanted.extend((0..7).flat_map(|n| [Frame::Begun(n), Frame::Done(n)]));
    wanted.push(Frame::End("ok".to_owned()));
    assert_eq!(frames, wanted);
    assert_eq!(host.read("old").as_deref(), Some("after 'quoted' $(id)\n\n"));
    assert_eq!(host.read("Xorg.XXXX").as_deref(), Some(""));
    assert_eq!(host.read("ran").as_deref(), Some("it's $HOME given"));
    assert_eq!((host.read("bye"), host.read("state/preimages/t-1/2.before").as_deref()), (None, Some("kept")));
    assert_eq!(host.read("state/preimages/t-1/0.before").as_deref(), Some("before"));
    let mode = |name: &str| fs::metadata(host.dir.path().join(name)).expect("there").permissions().mode() & 0o7777;
    assert_eq!((mode("old"), mode("folder"), mode("state")), (0o640, 0o750, 0o700));
    let manifest = host.read("state/manifest/host.test--a%20b.json").expect("a record");
    assert_eq!(manifest, "{\"address\":\"host.test/a b\",\"desired\":{\"quote\":\"it's\"}}\n");
    let journal = host.read("state/journal/t-1.jsonl").expect("a journal");
    let lines: Vec<serde_json::Value> = journal.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 15);
    assert_eq!(lines[0]["address"], "host.test/db");
    assert_eq!(lines[14]["verdict"], "ok");
    assert!(host.read("run/t-1/events").is_none() && !host.dir.path().join("state/lock").exists());
    let left = fs::read_dir(host.dir.path()).expect("the folder").flatten();
    assert!(left.into_iter().all(|entry| !entry.file_name().to_string_lossy().starts_with(".seawall")));
}

#[test]
fn what_is_as_wanted_is_not_touched() {
    use std::os::unix::fs::MetadataExt as _;
    let host = Host::new();
    let path = host.dir.path().join("same");
    host.act("t-1", vec![host.write("same", "text\n", None)], &[]);
    let first = fs::metadata(&path).expect("there").ino();
    host.act("t-2", vec![host.write("same", "text\n", Some(&["false"]))], &[]);
    assert_eq!(fs::metadata(&path).expect("there").ino(), first);
    fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("its mode");
    host.act("t-3", vec![host.write("same", "text\n", None)], &[]);
    assert_ne!(fs::metadata(&path).expect("there").ino(), first);
}

#[test]
fn the_first_failure_stops_and_says_why() {
    let host = Host::new();
    fs::write(host.dir.path().join("old"), "before").expect("a file");
    let reject = ["sh", "-c", "echo \"no good: $(cat \"$0\")\" >&2; exit 9", "{}"];
    let steps = vec![run(&["true"]), host.write("old", "bad", Some(&reject)), host.write("new", "x", None)];
    let frames = host.act("t-1", steps, &[]);
    let output = "no good: bad\n".to_owned();
    assert_eq!(frames[4..], [Frame::Failed { position: 1, status: 9, output }, Frame::End("failed".to_owned())]);
    assert_eq!((host.read("old").as_deref(), host.read("new")), (Some("before"), None));
    assert_eq!(fs::read_dir(host.dir.path()).expect("the folder").count(), 3, "no candidate stays");
    for (id, step, word) in [
        ("t-2", run(&["sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; echo; echo last; exit 5"]), "last\n"),
        ("t-3", run(&["no-such-program-here"]), "No such file or directory\n"),
        ("t-4", host.write("missing/below", "x", None), "No such file or directory\n"),
        ("t-5", HostStep::RemoveFile { path: host.at("state") }, "it was left as it is\n"),
    ] {
        match &host.act(id, vec![step], &[])[2] {
            Frame::Failed { output, .. } => assert!(output.ends_with(word) && output.len() <= 8192, "{output}"),
            other => panic!("{id}: {other:?}"),
        }
    }
    assert!(!host.dir.path().join("state/lock").exists());
}

#[test]
fn a_transaction_starts_once_and_can_be_read_again() {
    let host = Host::new();
    let program = |id: &str| {
        let step = run(&["sh", "-c", "echo ran >> \"$0\"", &host.at("count")]);
        let address = Address::new("host.test", "db");
        let steps = vec![TransactionStep { address, index: 0, step }];
        let transaction = Transaction { id: id.to_owned(), guard_s: None, steps };
        compile(&transaction, &[], &host.layout()).expect("a program").0
    };
    let program = program("t-1");
    let first = host.launch("t-1", program.reveal(), 0, 60, false);
    let again = host.launch("t-1", program.reveal(), 0, 60, false);
    assert_eq!(again[0], Frame::Attached);
    assert_eq!(first[1..], again[1..]);
    let later = host.launch("t-1", program.reveal(), "begin 0\n".len() as u64, 60, true);
    assert_eq!(later, [Frame::Attached, Frame::Done(0), Frame::End("ok".to_owned())]);
    let gone = host.launch("t-1", program.reveal(), 0, 60, true);
    let Frame::Journal(journal) = &gone[1] else { panic!("{gone:?}") };
    assert!(journal.contains("\"verdict\":\"ok\""));
    assert_eq!(gone.last(), Some(&Frame::Gone));
    assert_eq!(host.read("count").as_deref(), Some("ran\n"));
}

#[test]
fn a_lock_keeps_others_out_until_it_is_stale() {
    let host = Host::new();
    let lock = host.dir.path().join("state/lock");
    fs::create_dir_all(&lock).expect("a lock");
    fs::write(lock.join("holder"), "t-0\nsam@laptop\n2026-11-21T05:00:00Z\n").expect("its holder");
    let frames = host.act("t-1", vec![run(&["true"])], &[]);
    assert_eq!(frames, [Frame::Locked("t-0\nsam@laptop\n2026-11-21T05:00:00Z".to_owned())]);
    assert!(host.read("state/journal/t-1.jsonl").is_none());
    let aged = Command::new("touch").args(["-d", "2 minutes ago"]).arg(&lock).status().expect("touch runs");
    assert!(aged.success());
    assert_eq!(host.act("t-2", vec![run(&["true"])], &[]).last(), Some(&Frame::End("ok".to_owned())));
    assert!(!lock.exists());
}

#[test]
fn a_program_that_arrives_cut_changes_nothing() {
    let host = Host::new();
    let transaction = Transaction {
        id: "t-1".to_owned(),
        guard_s: None,
        steps: vec![TransactionStep {
            address: Address::new("host.test", "db"),
            index: 0,
            step: host.write("new", "x", None),
        }],
    };
    let (program, _) = compile(&transaction, &[], &host.layout()).expect("a program");
    let program = program.reveal();
    for cut in (0..program.len()).step_by(97) {
        let script = host.dir.path().join("cut");
        fs::write(&script, &program[..cut]).expect("a file");
        Command::new("sh").arg(&script).stderr(Stdio::null()).status().expect("sh runs");
        assert!(host.read("new").is_none(), "cut at {cut}");
    }
}

#[test]
fn secrets_are_filled_in_once_and_are_in_no_file_but_their_own() {
    const VALUE: &str = "s3cr3t-{{other}}-'quoted'";
    let host = Host::new();
    let HostStep::WriteFile { path, owner, group, mode, .. } = host.write("conf", "", None) else { unreachable!() };
    let place = SecretRef::Env { env: "UNUSED".to_owned() };
    let content = Content::WithSecrets {
        template: "pass={{pass}} {{unknown}} {{".to_owned(),
        secrets: [("pass".to_owned(), place.into())].into(),
    };
    let steps = vec![
        HostStep::WriteFile { path, owner, group, mode, content, validate: None },
        run(&["sh", "-c", "ps -eo args; cat \"$0\"/run/*/* \"$0\"/state/journal/*; exit 7", &host.at("")]),
    ];
    let secrets = vec![[("pass".to_owned(), Secret::new(VALUE.to_owned()))].into(), Secrets::new()];
    let frames = host.act("t-1", steps, &secrets);
    assert_eq!(host.read("conf"), Some(format!("pass={VALUE} {{{{unknown}}}} {{{{")));
    let Frame::Failed { output, .. } = &frames[4] else { panic!("{frames:?}") };
    assert!(output.contains("begin 1") && !output.contains("s3cr3t"), "{output}");
}

#[test]
fn steps_that_make_no_sense_are_refused_before_anything_runs() {
    let host = Host::new();
    let bad_mode = HostStep::MakeDirectory {
        path: "/x".to_owned(),
        owner: String::new(),
        group: String::new(),
        mode: "u+s".to_owned(),
    };
    let HostStep::Run { argv, .. } = run(&["true"]) else { unreachable!() };
    let bad_env = HostStep::Run {
        argv,
        env: [("A;id".to_owned(), String::new())].into(),
        stdin: None,
        timeout_s: 1,
        revert: None,
        what: String::new(),
    };
    let relative = HostStep::RemoveFile { path: "x".to_owned() };
    for step in [bad_mode, bad_env, relative, run(&[]), run(&["a\0b"])] {
        let address = Address::new("host.test", "db");
        let steps = vec![TransactionStep { address, index: 0, step: step.clone() }];
        let transaction = Transaction { id: "t".to_owned(), guard_s: None, steps };
        assert!(compile(&transaction, &[], &host.layout()).is_err(), "{step:?}");
    }
    assert_eq!(record_name(&Address::new("host.jobs", "../x")), "host.jobs--..%2fx.json");
}
