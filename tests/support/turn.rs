//! Whose turn it is: as many labs at once as the cores carry, and tests that must be alone, alone.
//!
//! Locks on files, so that it also holds between processes that run the tests at the same time.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use seawall::sandbox::machines::{MachineError, doctor};

/// Set to 1 where hosts cannot run: every test that needs one is skipped then, and proves nothing.
const WITHOUT_HOSTS: &str = "SEAWALL_TESTS_WITHOUT_HOSTS";
/// How many labs run at once, where it is not one more than this computer has cores.
const LABS: &str = "SEAWALL_TESTS_LABS";
const SLOT_LOOK: Duration = Duration::from_millis(50);

/// The project's own folder for images, emulators and templates, shared by all tests.
pub(crate) fn cache() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".seawall/cache")
}

/// Held as long as a test has labs.
pub(crate) struct Turn {
    _quiet: Flock<File>,
    _slot: Option<Flock<File>>,
}

fn open(name: &str) -> File {
    let folder = cache().join("turns");
    std::fs::create_dir_all(&folder).expect("a folder for locks");
    File::create(folder.join(name)).expect("a file to lock")
}

/// Waits for a lock on a file.
pub(crate) fn locked(file: File, how: FlockArg) -> Flock<File> {
    Flock::lock(file, how).map_err(|(_, error)| error).expect("a local file can be locked")
}

impl Turn {
    /// Waits until one more lab may run beside the others.
    pub(crate) fn beside_others() -> Self {
        let quiet = enter(FlockArg::LockShared);
        let labs = std::env::var(LABS).ok().and_then(|text| text.parse().ok());
        let labs = labs.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, |cores| cores.get() + 1));
        loop {
            let free = |slot| Flock::lock(open(&format!("slot-{slot}")), FlockArg::LockExclusiveNonblock).ok();
            if let Some(slot) = (0..labs).find_map(free) {
                return Self { _quiet: quiet, _slot: Some(slot) };
            }
            std::thread::sleep(SLOT_LOOK);
        }
    }

    /// Waits until nobody else's lab runs, and keeps others out: for tests that measure time, or look at all there is.
    pub(crate) fn alone() -> Self {
        Self { _quiet: enter(FlockArg::LockExclusive), _slot: None }
    }
}

/// Whoever waits to be alone waits in the entrance, so that nobody overtakes it for ever.
fn enter(how: FlockArg) -> Flock<File> {
    let _entrance = locked(open("entrance"), FlockArg::LockExclusive);
    locked(open("quiet"), how)
}

/// Whether hosts can run here. Where they cannot, the test fails, unless somebody said that it shall be skipped.
pub(crate) fn hosts_can_run(test: &str) -> bool {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    // On a thread of its own: the caller may be in a runtime already.
    let look = || {
        let asked = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(doctor(Some(Path::new(env!("CARGO_BIN_EXE_seawall"))), &cache()))
        });
        match asked.join().expect("the look at this computer ends") {
            Ok(()) => None,
            Err(MachineError::CannotRun { missing }) => Some(missing.join("; ")),
            Err(other) => panic!("{other}"),
        }
    };
    let Some(missing) = MISSING.get_or_init(look) else { return true };
    assert!(
        std::env::var(WITHOUT_HOSTS).is_ok_and(|value| value == "1"),
        "{test}: this computer cannot run hosts: {missing}; {WITHOUT_HOSTS}=1 skips every test that needs them"
    );
    // Past what captures the words of a test that did not fail.
    let _ = writeln!(std::io::stderr(), "{test}: SKIPPED: this computer cannot run hosts: {missing}");
    false
}
