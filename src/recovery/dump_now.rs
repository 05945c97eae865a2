//! Makes logical dumps now, under a name by which they are kept: before a migration, for example.
//!
//! A transaction of the host runs the program that the schedule runs, so it goes on when this connection is lost, and no
//! apply changes the host meanwhile. What was made is read from the bucket, never from an exit code.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::base::address::Address;
use crate::base::diag::Diagnostic;
use crate::inventory::scalar::Name;
use crate::kinds::Kind as _;
use crate::kinds::postgres_dumps::{PROGRAM, PostgresDumps, RUN_S};
use crate::plan::backups::DumpsMade;
use crate::plan::step::HostStep;
use crate::reach::aws::objects::Listed;
use crate::reach::look::Look;
use crate::reach::world::World;
use crate::reach::{Act as _, HostEvent, Transaction, TransactionStep};
use crate::recovery::dumps;
use crate::recovery::look::Target;

/// The folder of what is no database.
const ROLES: &str = ".globals";
/// The program runs as gently as its service does.
const NICE: [&str; 3] = ["nice", "-n", "10"];

impl Target {
    /// Dumps every declared database whole, and keeps the dumps under a name. `id` names the transaction and is new.
    ///
    /// # Errors
    /// What is wrong, and what was dumped all the same.
    pub async fn dump_before(
        &self,
        world: &World,
        name: &Name,
        id: &str,
        on_progress: &(dyn Fn(&str) + Sync),
    ) -> Result<DumpsMade, Diagnostic> {
        let begun = Instant::now();
        if self.section.dumps.is_none() {
            let problem = Diagnostic::error("no-dumps-declared", format!("`{}` makes no logical dumps", self.server));
            return Err(problem.note("nothing was dumped").hint(
                "add `dumps: {}` to its `backup` section, and apply; `seawall backup now` makes a backup of all",
            ));
        }
        on_progress("looking at the dumps");
        let at = self.endpoint(world).await.map_err(|why| self.not_begun(&why))?;
        if dumps::is_taken(&self.listed(world).await.map_err(|why| self.not_begun(&why))?, name.as_str()) {
            let problem = Diagnostic::error("dump-name-taken", format!("there is a dump from before `{name}` already"));
            return Err(problem
                .note("nothing was dumped: a name stands for one moment")
                .hint("take another name; `seawall backup list` shows those that are there"));
        }
        on_progress("dumping every declared database");
        let quiet = |_: HostEvent| ();
        let done = world.act_host(&at, &run(name, id, &self.server), &quiet).await;
        let made = self.listed(world).await.map(|objects| self.made_before(&objects, name));
        let made = made.map_err(|why| self.not_all(name).note(format!("what was made is not known: {why}")))?;
        let there: BTreeSet<&str> = made.iter().map(|made| made.database.as_str()).collect();
        let wanted = self.dumped.iter().map(String::as_str).chain([ROLES]);
        let missing: Vec<&str> = wanted.filter(|name| !there.contains(name)).collect();
        let failure = done.err();
        if failure.is_none() && missing.is_empty() {
            return Ok(DumpsMade { before: name.to_string(), dumps: made, took_s: begun.elapsed().as_secs() });
        }
        let mut problem = self.not_all(name);
        problem = failure.iter().fold(problem, |problem, failure| problem.note(failure.to_string()));
        problem = missing.iter().fold(problem, |problem, name| problem.note(format!("not dumped: `{name}`")));
        problem = there.iter().fold(problem, |problem, name| problem.note(format!("dumped, and kept: `{name}`")));
        Err(problem.hint("when the cause is mended, take another name; what this one has is kept"))
    }

    async fn listed(&self, world: &World) -> Result<Vec<Listed>, String> {
        let found = Look::of(world).objects(&self.bucket, &dumps::prefix(self.stanza()), &mut |_| {}).await;
        let found = found.map_err(|why| why.to_string())?;
        found.ok_or_else(|| format!("there is no bucket `{}`", self.bucket))
    }

    fn made_before(&self, objects: &[Listed], name: &Name) -> Vec<crate::plan::backups::DumpMade> {
        dumps::named(objects, &dumps::prefix(self.stanza()), name.as_str())
    }

    fn not_all(&self, name: &Name) -> Diagnostic {
        Diagnostic::error("dump-failed", format!("not everything of `{}` was dumped before `{name}`", self.server))
    }

    fn not_begun(&self, why: &str) -> Diagnostic {
        let problem =
            Diagnostic::error("backup-unseen", format!("the dumps of `{}` could not be looked at", self.server));
        problem.note(why).note("nothing was dumped").hint("`seawall status` shows whether the server answers")
    }
}

fn run(name: &Name, id: &str, server: &str) -> Transaction {
    let argv = NICE.into_iter().chain([PROGRAM, "before", name.as_str()]);
    let step = HostStep::Run {
        argv: argv.map(str::to_owned).collect(),
        env: BTreeMap::new(),
        stdin: None,
        timeout_s: RUN_S,
        revert: None,
        what: format!("dump every declared database before {name}"),
    };
    let address = Address::new(PostgresDumps::NAME, server);
    Transaction { id: id.to_owned(), guard_s: None, steps: vec![TransactionStep { address, index: 0, step }] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_of_the_schedule_is_run_with_the_name() {
        let work = run(&"the-move".parse().expect("a name"), "dump-x", "db");
        let [TransactionStep { step: HostStep::Run { argv, .. }, .. }] = work.steps.as_slice() else {
            panic!("one step that runs something")
        };
        assert_eq!(argv.join(" "), "nice -n 10 /usr/local/lib/seawall/dump before the-move");
    }
}
