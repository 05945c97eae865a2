//! `seawall validate`: the inventory alone, offline, every problem at once.

use crate::cli::exit::{Exit, Stop};
use crate::cli::session::{Session, refuses};
use crate::policy;

/// Reads, checks, resolves, and applies the rules that need no world.
pub fn validate(session: &mut Session) -> Result<Exit, Stop> {
    let (loaded, resolved) = session.resolve()?;
    let findings = policy::check(&loaded.inventory, &loaded.places);
    let refused = refuses(&findings);
    session.show_validated(&loaded, &resolved, &findings)?;
    Ok(if refused { Exit::Refused } else { Exit::Done })
}
