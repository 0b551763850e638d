//! Waiting for conditions, with a limit and a reason.

use std::fmt::Display;
use std::thread;
use std::time::{Duration, Instant};

/// How long a condition may take to come true on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Something that holds or does not yet.
pub trait Condition {
    type Value;

    /// What came true, or why nothing did.
    fn outcome(self) -> Result<Self::Value, String>;
}

impl Condition for bool {
    type Value = ();

    fn outcome(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("no".to_owned()) }
    }
}

impl<T> Condition for Option<T> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing yet".to_owned())
    }
}

impl<T, E: Display> Condition for Result<T, E> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

/// Asks until the condition holds, and gives back what it found. Panics with the last reason when it takes too long.
pub fn eventually<C: Condition>(what: &str, condition: impl FnMut() -> C) -> C::Value {
    eventually_within(PATIENCE, what, condition)
}

/// Like [`eventually`], for what takes longer even on a machine that is not busy.
pub fn eventually_within<C: Condition>(limit: Duration, what: &str, condition: impl FnMut() -> C) -> C::Value {
    wait(limit, what, condition).unwrap_or_else(|reason| panic!("{reason}"))
}

/// Like [`eventually`], with the reason as an error.
pub fn try_eventually<C: Condition>(what: &str, condition: impl FnMut() -> C) -> Result<C::Value, String> {
    wait(PATIENCE, what, condition)
}

/// Like [`eventually_within`], with the reason as an error.
pub fn try_eventually_within<C: Condition>(
    limit: Duration,
    what: &str,
    condition: impl FnMut() -> C,
) -> Result<C::Value, String> {
    wait(limit, what, condition)
}

fn wait<C: Condition>(limit: Duration, what: &str, mut condition: impl FnMut() -> C) -> Result<C::Value, String> {
    let started = Instant::now();
    loop {
        match condition().outcome() {
            Ok(value) => return Ok(value),
            Err(reason) if started.elapsed() > limit => {
                return Err(format!("not within {} s: {what} ({reason})", limit.as_secs()));
            }
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}
