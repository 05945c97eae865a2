//! Work under the environment's lock, and the word of a person before it.

use crate::base::diag::Diagnostic;
use crate::cli::exit::{Exit, Stop};
use crate::cli::session::Session;
use crate::cli::work::{Stores, Work, holder, store_failed};
use crate::engine::lock;
use crate::reach::world::World;

/// Takes the lock, does the work, and gives the lock back however it ended. `what` is for whoever finds it taken; `interrupted`
/// is what an operator reads who has ended it.
///
/// # Errors
/// What the work says, that the lock is another's, or `interrupted`.
pub async fn locked<T>(
    session: &mut Session,
    work: &Work,
    world: &World,
    what: &str,
    interrupted: Diagnostic,
    run: impl AsyncFnOnce(&mut Session, &Stores) -> Result<T, Stop>,
) -> Result<T, Stop> {
    held(session, work, world, what, async |session, stores| {
        tokio::select! {
            result = run(session, stores) => result,
            _ = tokio::signal::ctrl_c() => Err(Stop::new(Exit::Interrupted, interrupted)),
        }
    })
    .await
}

/// The same for work that sees to interruptions itself: it must come to its end.
///
/// # Errors
/// What the work says, or that the lock is another's.
pub async fn held<T>(
    session: &mut Session,
    work: &Work,
    world: &World,
    what: &str,
    run: impl AsyncFnOnce(&mut Session, &Stores) -> Result<T, Stop>,
) -> Result<T, Stop> {
    let stores = work.stores(world).await.map_err(|failure| store_failed(&failure))?;
    let lock = lock::take(&stores.all(), &holder(what)).await.map_err(Stop::failed)?;
    for note in lock.took_over.iter().chain(&stores.why_not_shared) {
        session.say(format!("note: {note}"));
    }
    let result = run(session, &stores).await;
    if let Err(failure) = lock::release(&stores.all(), lock).await {
        session.say(format!("warning: the lock could not be given back: {failure}"));
    }
    result
}

impl Session {
    /// Whether a person says yes. `otherwise` is what to do where nobody can be asked.
    ///
    /// # Errors
    /// There is nobody.
    pub fn confirmed(&mut self, question: &str, otherwise: &str) -> Result<bool, Stop> {
        if self.can_ask() {
            return self.ask(question);
        }
        let problem = Diagnostic::error("nobody-to-ask", "there is no terminal to ask on, and --yes was not given");
        Err(Stop::new(Exit::Usage, problem.note("nothing was changed by this run").hint(otherwise)))
    }
}

/// For [`Session::confirmed`], where nothing else would do.
pub const GIVE_YES: &str = "give --yes to do it without a question";
