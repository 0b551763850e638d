//! What follows from an import that failed: when it comes again, and how often that is said.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::controller::agenda::Verdict;
use crate::registry::{FetchError, Reason, Retry};
use crate::seldom::Seldom;
use crate::store::home::HomeError;
use crate::stream::Key;

/// How long to say nothing after saying that a home is away, which keeps any number of streams waiting.
const QUIET: Duration = Duration::from_mins(1);

/// What passes is no fault of the registry, and is over soon: there is no reason to wait for as long.
pub(super) fn verdict_of_home(error: &HomeError) -> Verdict {
    match error {
        HomeError::Conflict(_) => Verdict::Again,
        HomeError::Busy(_, wait) => Verdict::Away(Some(*wait)),
        HomeError::Unavailable(_) => Verdict::Away(None),
        // Of what is gone the agenda hears soon; until then it is not looked at again and again.
        HomeError::Gone(_) | HomeError::Exists(_) | HomeError::Refused(_) => Verdict::Refused,
    }
}

/// No other stream or image would fare better there for now.
pub(super) fn is_away(error: &HomeError) -> bool {
    matches!(error, HomeError::Unavailable(_) | HomeError::Busy(..))
}

pub(super) fn verdict_of(error: &FetchError) -> Verdict {
    match error.retry {
        Retry::Never => Verdict::Never,
        Retry::Later => Verdict::Later(None),
        Retry::After(wait) => Verdict::Later(Some(wait)),
    }
}

/// The registry wants other credentials.
pub(super) fn is_refusal(reason: Reason) -> bool {
    matches!(reason, Reason::Unauthorized | Reason::Forbidden)
}

/// Says what went wrong with a home.
pub(super) struct Teller(Mutex<Seldom>);

impl Default for Teller {
    fn default() -> Self {
        Self(Mutex::new(Seldom::every(QUIET)))
    }
}

impl Teller {
    pub(super) fn tell(&self, stream: &Key, error: &HomeError) {
        let times = match error {
            HomeError::Conflict(_) | HomeError::Gone(_) => return,
            HomeError::Unavailable(_) | HomeError::Busy(..) => {
                self.0.lock().unwrap_or_else(PoisonError::into_inner).happened()
            }
            HomeError::Exists(_) | HomeError::Refused(_) => Some(1),
        };
        if let Some(times) = times {
            tracing::warn!(%stream, %error, times, "image stream could not be imported, tried again later");
        } else {
            tracing::debug!(%stream, %error, "image stream could not be imported, tried again later");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_home_says_is_not_held_against_a_registry() {
        let (key, second) = (|| Key::new("demo", "app"), Duration::from_secs(1));
        assert_eq!(verdict_of_home(&HomeError::Conflict(key())), Verdict::Again);
        assert_eq!(verdict_of_home(&HomeError::Unavailable("it is away".to_owned())), Verdict::Away(None));
        assert_eq!(verdict_of_home(&HomeError::Busy("later".to_owned(), second)), Verdict::Away(Some(second)));
        for lasting in [HomeError::Refused("no right".to_owned()), HomeError::Gone(key())] {
            assert_eq!(verdict_of_home(&lasting), Verdict::Refused);
        }
    }
}
