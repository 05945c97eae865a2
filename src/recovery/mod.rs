//! Backups and what can be restored from them. Reading is apart from doing: what pgBackRest, PostgreSQL and S3 say is
//! read by pure functions into [`crate::plan::backups`], and judged there.
//!
//! Read in this order: [`crate::plan::info`] and [`wal`] (what is in the repository), [`names`] (the same without the server), [`dumps`] (what is beside it), [`timelines`] (whose WAL it is), [`windows`] (what can be restored), [`judge`] (what
//! is not well), [`look`] (asks), [`verify`] and [`prove`] (is it whole), [`now`] and [`dump_now`] (make one), [`goal`] (which backup, timeline and target), [`needs`] (whether the server has what that takes), [`restore`] (carries that out), [`fence`] (keeps what
//! is left of a lost server from writing), [`rehearsal`] (a throw-away server) and [`throw_away`] (its end), [`drill`] (measures a restore) and [`history`] (what was measured before). [`meaning`] says what
//! pgBackRest's failures mean. Deliberately absent: trust in an exit code of pgBackRest. `info` and `verify` end with 0 on a
//! broken repository.

pub mod copied;
pub mod drill;
pub mod dump_now;
pub mod dumps;
pub mod fence;
pub mod goal;
pub mod history;
pub mod judge;
pub mod look;
pub mod meaning;
pub mod names;
pub mod needs;
pub mod now;
pub mod prove;
pub mod rehearsal;
pub mod restorable;
pub mod restore;
pub mod seen;
pub mod storage;
pub mod throw_away;
pub mod timelines;
pub mod verify;
pub mod wal;
pub mod windows;
