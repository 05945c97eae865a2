//! The real binary as an operator meets it: arguments in, stdout, stderr and exit code out. No root, network or sandbox.
//!
//! Each case runs in an empty folder with an empty environment and is compared as a whole with a transcript under
//! `tests/cli/expected/`. `SEAWALL_UPDATE=1` writes the transcripts anew; read the difference before committing it.

mod offline;
mod saved;
mod world;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// An inventory without any problem.
pub(crate) const GOOD: &str = include_str!("../inventories/valid/one-server.yaml");

/// No command here waits for anything. In seconds; generous, for machines that do much else.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A folder to run in, an empty home beside it, and what was said so far.
pub(crate) struct Desk {
    folder: TempDir,
    home: TempDir,
    transcript: String,
}

impl Desk {
    pub(crate) fn empty() -> Self {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let home = tempfile::tempdir().expect("a folder for temporary files");
        Self { folder, home, transcript: String::new() }
    }

    /// A desk whose only inventory is `text`.
    pub(crate) fn with_inventory(text: &str) -> Self {
        let desk = Self::empty();
        desk.write("inventories/test.yaml", text);
        desk
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a file in a folder")).expect("the folder can be made");
        std::fs::write(path, text).expect("the file can be written");
    }

    /// The binary with an empty environment and nobody at a terminal.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seawall"));
        command.args(args).current_dir(self.path()).env_clear();
        command.env("HOME", self.home.path()).env("PATH", "/usr/bin:/bin");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs to the end, which must come within [`LIMIT`].
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let begun = Instant::now();
        let output = self.command(args).output().expect("the binary starts");
        assert!(begun.elapsed() < LIMIT, "{args:?} took {:?}", begun.elapsed());
        output
    }

    /// Runs, checks the exit code, and adds what was said to the transcript.
    pub(crate) fn case(&mut self, exit: i32, args: &[&str]) -> Output {
        let output = self.run(args);
        let (out, err) = (self.plain(&output.stdout), self.plain(&output.stderr));
        assert_eq!(output.status.code(), Some(exit), "{args:?}\n{out}\n{err}");
        write!(self.transcript, "$ seawall {}\n{out}{}", args.join(" "), said_beside(&err))
            .expect("a String takes all");
        writeln!(self.transcript, "exit {exit}\n").expect("a String takes all");
        output
    }

    /// What was said, with this desk's places named the same in every run.
    pub(crate) fn plain(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8(bytes.to_vec()).expect("output is UTF-8");
        text.replace(&self.path().display().to_string(), "DESK")
    }

    /// Compares the transcript with `tests/cli/expected/NAME.txt`.
    pub(crate) fn must_match(self, name: &str) {
        let file = root().join("tests/cli/expected").join(format!("{name}.txt"));
        if std::env::var_os("SEAWALL_UPDATE").is_some() {
            std::fs::write(&file, &self.transcript).expect("the transcript can be written");
            return;
        }
        let expected = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            self.transcript == expected,
            "{} differs\n-- expected\n{expected}\n-- found\n{}",
            file.display(),
            self.transcript
        );
    }
}

/// Lines of stderr, marked.
fn said_beside(text: &str) -> String {
    text.lines().fold(String::new(), |all, line| all + "! " + line + "\n").replace("! \n", "!\n")
}
