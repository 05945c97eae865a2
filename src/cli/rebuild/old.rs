//! What is left of the old server: whose keys it has, what puts up the fence, and its end.

use serde_json::Value;

use crate::base::diag::Diagnostic;
use crate::cli::exit::{Exit, Stop};
use crate::cli::locked::GIVE_YES;
use crate::cli::session::Session;
use crate::cli::work::Work;
use crate::kinds::Kind as _;
use crate::kinds::iam_user::IamUser;
use crate::kinds::table::Wanted;
use crate::plan::rebuild::Ledger;
use crate::plan::restores::Repository;
use crate::plan::step::CloudStep;
use crate::policy::price::kept_snapshot;
use crate::reach::Act as _;
use crate::reach::world::World;
use crate::recovery::fence::{Earlier, Fenced};
use crate::recovery::look::Target;

/// The identities whose keys are on a server: everything that it could write with.
pub(super) fn identities(wanted: &[Wanted], server: &str) -> Vec<Wanted> {
    let is_on =
        |wanted: &&Wanted| wanted.desired.pointer("/deliver/host_file/server").and_then(Value::as_str) == Some(server);
    wanted.iter().filter(|wanted| wanted.address.kind() == IamUser::NAME).filter(is_on).cloned().collect()
}

pub(super) fn names(identities: &[Wanted]) -> Vec<String> {
    let name = |wanted: &Wanted| wanted.desired.get("name").and_then(Value::as_str).map(str::to_owned);
    identities.iter().filter_map(name).collect()
}

pub(super) fn fenced<'a>(work: &'a Work, target: &'a Target, users: &'a [String]) -> Fenced<'a> {
    let environment = &work.resolved.environment;
    Fenced { environment, server: &target.server, instance: &target.reference.instance, users }
}

/// Removes what is left of the old server, once the new one has been looked at.
pub(super) async fn accept(
    session: &mut Session,
    work: &Work,
    world: &World,
    target: &Target,
    yes: bool,
) -> Result<Exit, Stop> {
    let (earlier, later) =
        fenced(work, target, &[]).others(world).await.map_err(|why| Stop::failed(rebuild_unseen(&why)))?;
    if let Some(later) = later.first() {
        return Err(Stop::new(Exit::Refused, later_generation(target, later)));
    }
    if earlier.is_empty() {
        session.say(format!("nothing is left of an earlier {}", target.server));
        return Ok(Exit::Done);
    }
    if let Some(Earlier { name, state, .. }) = earlier.iter().find(|one| one.state != "stopped") {
        let problem = Diagnostic::error(
            "rebuild-not-fenced",
            format!("instance `{name}` is {state}, and a rebuild would have stopped it"),
        );
        return Err(Stop::new(
            Exit::Refused,
            problem.note("nothing was changed by this run").hint("finish the rebuild first: seawall rebuild"),
        ));
    }
    let names: Vec<&str> = earlier.iter().map(|one| one.name.as_str()).collect();
    session.say(format!("{} will be DELETED, with everything on it, for ever", names.join(", ")));
    for Earlier { name, .. } in earlier.iter().filter(|one| one.auto_snapshots) {
        session.say(format!("{name}: {}", kept_snapshot(name)));
    }
    if !yes && !session.confirmed("Delete? Only `yes` goes on: ", GIVE_YES)? {
        return Ok(Exit::Failed);
    }
    for Earlier { name, auto_snapshots, .. } in &earlier {
        let keep = auto_snapshots.then(|| CloudStep::KeepSnapshot { instance: name.clone() });
        for step in keep.into_iter().chain([CloudStep::DeleteInstance { name: name.clone() }]) {
            world.act_cloud(&step, &[]).await.map_err(|failure| {
                let problem = Diagnostic::error("rebuild-failed", format!("`{name}` could not be deleted"));
                Stop::failed(problem.note(failure.to_string()))
            })?;
        }
        session.say(format!("{name} is gone"));
    }
    Ok(Exit::Done)
}

/// An inventory of before a rebuild must not take the server's place away again.
pub(super) fn later_generation(target: &Target, later: &str) -> Diagnostic {
    Diagnostic::error(
        "later-generation",
        format!("instance `{later}` is of a later generation of `{}` than the declared one", target.server),
    )
    .note("somebody has rebuilt the server, and this inventory does not know it yet")
    .note("nothing was changed by this run")
    .hint(format!("take the inventory that says `servers.{}.instance.generation` as it was rebuilt", target.server))
}

/// A rebuild goes on from the repository that it began with.
pub(super) fn other_repository(target: &Target, begun: &Ledger) -> Diagnostic {
    let which = match begun.repository {
        Repository::First => "first",
        Repository::Copy => "second",
    };
    Diagnostic::error(
        "rebuild-other-repository",
        format!("rebuild {} of `{}` reads the {which} repository", begun.id, target.server),
    )
    .note("it is not finished; nothing was changed by this run")
    .hint(format!("go on with it: seawall rebuild{}", begun.repository.option()))
}

pub(super) fn rebuild_unseen(why: &str) -> Diagnostic {
    Diagnostic::error("rebuild-unseen", "the new server could not be looked at")
        .note(why)
        .hint("run `seawall rebuild` again: it goes on where it was")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::resolve::resolve;
    use crate::inventory::load::parse;

    #[test]
    fn the_keys_of_a_server_are_those_that_lie_on_it() {
        let server = |name: &str| {
            format!(
                "  {name}:
    instance: {{ bundle: small_3_0, blueprint: debian_12, zone: ca-central-1a }}
    login: {{ keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g ops] }}
    postgres: {{}}
    backup: {{ bucket: backups, stanza: {name}, schedule: {{ full: \"Sun 02:00\" }}, cipher_pass: {{ env: PASS, escrow: confirmed }} }}
"
            )
        };
        let text = format!(
            "seawall: 1
environment: prod
aws: {{ account: \"123456789012\", region: ca-central-1 }}
servers:
{}{}identities:
  exporter: {{ bucket: backups, prefix: exports, access: read-write, key: {{ server: db, file: /etc/seawall/exporter.credentials, group: root }} }}
  reader: {{ bucket: backups, prefix: exports, access: read-only, key: {{ server: db-2, file: /etc/seawall/reader.credentials, group: root }} }}
buckets: {{ backups: {{ name: prod-backups }} }}
",
            server("db"),
            server("db-2")
        );
        let loaded = parse("test.yaml", &text);
        let inventory = loaded.inventory.unwrap_or_else(|| panic!("{:?}", loaded.diagnostics));
        let resolved = resolve(&inventory).expect("no circle");
        let on = |server: &str| names(&identities(&resolved.wanted, server));
        assert_eq!(on("db"), ["prod-db-backup", "prod-db-restore", "prod-exporter"], "and none of `db-2`");
        assert_eq!(on("db-2"), ["prod-db-2-backup", "prod-db-2-restore", "prod-reader"]);
        assert!(on("web").is_empty());
    }
}
