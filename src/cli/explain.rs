//! `seawall explain`: what a kind manages; what a resource of the inventory will be, and which line asks for it.

use crate::base::address::Address;
use crate::cli::exit::{Exit, Stop};
use crate::cli::plan::unknown;
use crate::cli::session::Session;
use crate::kinds::{KINDS, kind};
use crate::view::explain;

/// Commands that have more to say than their help.
const TOPICS: [(&str, &str, &str); 3] = [
    (
        "restore",
        "to a moment, beside the database or in its place",
        "\
A restore always names its backup, timeline and target. `--plan` shows them, and what keeps it from being carried out: a gap, an
archive class, no backup before the target. Beside the database (the default) it makes a copy that listens on a socket only, archives
nothing, and cannot write where production's data is. In place, the data of before is moved aside and never deleted, and nothing is
archived until `restore accept`; `restore undo` goes back.

It has reached its target when PostgreSQL says where it stopped (for `latest`: when it has replayed the last segment of the archive), that
recovery is complete, and when a transaction of ours has committed. No exit status of pgBackRest or PostgreSQL is believed.

    seawall restore --to \"2026-11-21 02:21:10+00\" --name rows
    seawall restore psql rows -- -d chronos_db
    seawall restore drop rows
",
    ),
    (
        "rebuild",
        "a lost server anew, with the clock running",
        "\
Needs the inventory, the secrets and the bucket, and nothing of the machine that made the server. In this order: every access key of the old
server is deleted and read back as gone (what is left of it can write nowhere); a new instance, hardened, with the database's packages;
the newest backup and the WAL after it, proven as in `seawall restore`; archiving on a new timeline with a full backup; roles, access, pools,
jobs; the address last. Killed anywhere, it goes on when it is run again. Where the old instance is there, raise
`instance.generation` first: it is stopped and kept until `seawall rebuild --accept`.

The time is counted from the command to the end, against `objectives.rebuild`; the age of the newest commit that came back against
`objectives.rpo`.

`seawall rebuild --rehearse` does it on a fresh instance beside the server, without fence, archiving and address, and deletes that again
(`seawall explain drill`).
",
    ),
    (
        "drill",
        "a restore that is measured, verified and removed",
        "\
Beside the database (the default) it proves the repository, its passphrase, the WAL and the data. With `--fresh` it makes an instance of its own,
ENVIRONMENT-SERVER-drill-TIME, by the same steps as a rebuild, and proves the loss of the server, too: it needs the inventory, the secrets and
the bucket. It costs what the instance costs for the hours that began, which is said before it asks.

The fresh instance reads the repository with an identity of its own and can write nowhere, archives nothing, and is open to the networks of
SSH alone. It is deleted however the drill ends; one that was killed is named by `plan` and `status` and deleted by `drill gc`, which takes
only what name, address and tags together say is throw-away. With `--copy` it reads the second repository alone: server and bucket are lost.

    seawall drill --to random
    seawall drill --fresh
    seawall drill --fresh --copy
    seawall drill list
    seawall drill gc
",
    ),
];

/// Explains a kind, a resource, or lists the kinds.
pub fn explain(session: &mut Session, what: Option<&str>) -> Result<Exit, Stop> {
    let text = match what {
        None => {
            let topics = TOPICS.iter().map(|(name, summary, _)| (*name, *summary));
            explain::list(&KINDS.iter().map(|kind| (kind.name, kind.summary)).chain(topics).collect::<Vec<_>>())
        }
        Some(name) => match (kind(name), name.parse::<Address>()) {
            (Some(kind), _) => explain::kind(kind.name, kind.summary, kind.explain),
            (None, _) if let Some((name, summary, text)) = TOPICS.iter().find(|(topic, _, _)| *topic == name) => {
                explain::kind(name, summary, text)
            }
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
