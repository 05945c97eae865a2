//! Waiting for a condition in AWS: fast at first, slower later, and never for ever.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::reach::Failure;

/// First pause; it grows by half each time. Short, so that a local rehearsal is fast.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause; AWS's own waiters use three to five seconds.
const PAUSE_MAX: Duration = Duration::from_secs(4);

/// Asks until the answer is yes (`Ok(None)`), within a limit. `Ok(Some(text))` says what it is like so far.
pub(crate) async fn until<F, R>(what: &str, limit: Duration, mut ask: F) -> Result<(), Failure>
where
    F: FnMut() -> R + Send,
    R: Future<Output = Result<Option<String>, Failure>> + Send,
{
    let started = Instant::now();
    let mut pause = PAUSE_MIN;
    loop {
        let Some(so_far) = ask().await? else { return Ok(()) };
        if started.elapsed() + pause > limit {
            return Err(Failure::new(format!("{what}: not so after {} s; {so_far}", started.elapsed().as_secs()))
                .hint("look at it in the AWS console; a new plan shows what is there"));
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(PAUSE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_never_comes_ends_at_the_limit_and_says_what_it_was_like() {
        let mut asked = 0;
        let ended = until("instance db is running", PAUSE_MIN * 4, || {
            asked += 1;
            async { Ok(Some("it is pending".to_owned())) }
        });
        let failure = ended.await.expect_err("it is pending for ever");
        assert_eq!(failure.what, "instance db is running: not so after 0 s; it is pending");
        assert!((2..=3).contains(&asked), "pauses of 50 and 75 ms fit into 200 ms, and 112 ms more do not: {asked}");
    }

    #[tokio::test]
    async fn what_comes_late_is_waited_for() {
        let mut left = 3;
        let ended = until("it is there", Duration::from_mins(1), || {
            left -= 1;
            async move { Ok((left > 0).then(|| "not yet".to_owned())) }
        });
        assert!(ended.await.is_ok());
    }
}
