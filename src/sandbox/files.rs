//! What a lab's daemon and whoever starts it must agree on: names of files in the lab's folder, and the hidden argument.

/// The hidden argument that makes this program the daemon: `seawall __lab FOLDER`.
pub const DAEMON: &str = "__lab";
/// The saved state of Lightsail.
pub const LIGHTSAIL_FILE: &str = "lightsail.json";
/// What the front corrects of the emulator, and remembers.
pub const GAPS_FILE: &str = "gaps.json";
/// The emulator's state, objects and log.
pub const EMULATOR_FOLDER: &str = "emulator";
