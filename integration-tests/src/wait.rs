//! Waiting for a condition with a deadline.
//!
//! There is no bare sleep in the tests: what they wait for has a name, and the deadline's error
//! says which name it was.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at. Short enough that a wait costs a test next to nothing.
pub const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// The deadline for things that take milliseconds on an idle machine and seconds on a busy one.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Polls `condition` until it answers `Some`, at most for `limit`.
///
/// # Errors
/// The deadline has passed (the text names `what`), or the condition itself failed.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut condition: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(value) = condition().await? {
            return Ok(value);
        }
        if started.elapsed() > limit {
            bail!("waited {} s in vain for: {what}", limit.as_secs());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
