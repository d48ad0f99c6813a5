//! Time in the laboratory: waiting for a condition with a deadline, and the wall clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Pause between two looks at a condition. Short against every deadline in use, long against a query.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The monotonic clock.
#[expect(clippy::disallowed_methods, reason = "this is the laboratory's clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Wall clock in milliseconds since 1970-01-01 UTC.
#[expect(clippy::disallowed_methods, reason = "this is the laboratory's clock")]
pub fn wall_ms() -> i64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock of a test machine is past 1970");
    i64::try_from(since_epoch.as_millis()).expect("fits for 292 million years")
}

/// Looks until `probe` gives a value; fails the test with the last status after `patience`.
pub fn wait_until<T>(
    what: &str,
    patience: Duration,
    mut probe: impl FnMut() -> Result<T, String>,
) -> T {
    let started = now();
    loop {
        let status = match probe() {
            Ok(value) => return value,
            Err(status) => status,
        };
        assert!(
            started.elapsed() < patience,
            "waited {patience:?} for: {what}; last status: {status}"
        );
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Makes sure that `probe` holds for all of `span`: for things that must not happen.
pub fn hold(what: &str, span: Duration, mut probe: impl FnMut() -> Result<(), String>) {
    let started = now();
    while started.elapsed() < span {
        if let Err(status) = probe() {
            panic!("did not hold for {span:?}: {what}: {status}");
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_returns_the_value_as_soon_as_it_is_there() {
        let mut looks = 0;
        let value = wait_until("third look", Duration::from_secs(5), || {
            looks += 1;
            if looks == 3 {
                Ok(looks)
            } else {
                Err(format!("look {looks}"))
            }
        });
        assert_eq!(value, 3);
    }

    #[test]
    #[should_panic(expected = "last status: still dark")]
    fn waiting_in_vain_fails_with_the_last_status() {
        wait_until(
            "light",
            Duration::from_millis(60),
            || -> Result<(), String> { Err("still dark".to_owned()) },
        );
    }

    #[test]
    #[should_panic(expected = "it broke")]
    fn what_must_hold_is_looked_at_again_and_again() {
        let mut looks = 0;
        hold("glass", Duration::from_secs(5), || {
            looks += 1;
            if looks < 3 {
                Ok(())
            } else {
                Err("it broke".to_owned())
            }
        });
    }
}
