//! `seawall explain`: what a kind manages; what a resource of the inventory will be, and which line asks for it.

use crate::base::address::Address;
use crate::cli::exit::{Exit, Stop};
use crate::cli::plan::unknown;
use crate::cli::session::Session;
use crate::kinds::{KINDS, kind};
use crate::view::explain;

/// Explains a kind, a resource, or lists the kinds.
pub fn explain(session: &mut Session, what: Option<&str>) -> Result<Exit, Stop> {
    let text = match what {
        None => explain::list(&KINDS.iter().map(|kind| (kind.name, kind.summary)).collect::<Vec<_>>()),
        Some(name) => match (kind(name), name.parse::<Address>()) {
            (Some(kind), _) => explain::kind(kind.name, kind.summary, kind.explain),
            (None, Ok(address)) => return resource(session, &address),
            (None, Err(_)) => return Err(Stop::new(Exit::Usage, unknown(name))),
        },
    };
    write!(session.out, "{text}")?;
    Ok(Exit::Done)
}

fn resource(session: &mut Session, address: &Address) -> Result<Exit, Stop> {
    let (loaded, resolved) = session.resolve()?;
    let Some(wanted) = resolved.wanted(address) else {
        return Err(Stop::new(Exit::Usage, unknown(&address.to_string())));
    };
    let creation = (wanted.kind.create)(&wanted.desired);
    let place = loaded.locate(&wanted.path).map(|span| span.to_string()).unwrap_or_default();
    let after: Vec<String> = wanted.after.iter().map(ToString::to_string).collect();
    let text = explain::resource(address, wanted.kind.summary, &place, &after, &creation.fields, &creation.files);
    write!(session.out, "{text}")?;
    Ok(Exit::Done)
}
