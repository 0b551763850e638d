//! What is said of a watch that is not up: that it is not, what else goes wrong then, and from time to time that this
//! still holds. Pure: times are durations since some beginning.

use std::time::Duration;

use super::error::WatchError;

/// How often it is said that something still goes wrong.
const REMINDER: Duration = Duration::from_mins(10);

/// What goes wrong.
#[derive(Debug)]
pub(super) struct Trouble {
    since: Duration,
    said: Duration,
    error: WatchError,
}

impl Trouble {
    /// It goes wrong for the first time.
    pub(super) fn begins(error: WatchError, now: Duration) -> Self {
        Self { since: now, said: now, error }
    }

    /// It goes wrong again. Whether that is to be said: an API server that goes away and comes back refuses for several
    /// reasons one after the other, which are one to whoever reads of it.
    pub(super) fn goes_on(&mut self, error: WatchError, now: Duration) -> bool {
        let is_same = self.error == error || self.error.is_passing() && error.is_passing();
        let is_news = !is_same || now.saturating_sub(self.said) >= REMINDER;
        if is_news {
            self.said = now;
        }
        self.error = error;
        is_news
    }

    /// For how long it has gone wrong.
    pub(super) fn lasts(&self, now: Duration) -> Duration {
        now.saturating_sub(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn refused(code: u16) -> WatchError {
        WatchError::Refused { code, message: "because".to_owned(), patience: None }
    }

    #[test]
    fn outage_is_said_once_whatever_it_looks_like() {
        let mut trouble = Trouble::begins(WatchError::Unreachable("refused".to_owned()), SECOND);
        let looks = [refused(503), WatchError::Silent(SECOND), refused(429), WatchError::Unreachable("x".to_owned())];
        for (error, second) in looks.into_iter().cycle().take(590).zip(2..) {
            assert!(!trouble.goes_on(error, SECOND * second));
        }
        assert!(trouble.goes_on(refused(503), SECOND + REMINDER));
        assert!(!trouble.goes_on(refused(503), REMINDER * 2));
        assert_eq!(trouble.lasts(REMINDER * 2 + SECOND), REMINDER * 2);
    }

    #[test]
    fn what_has_another_remedy_is_said_at_once() {
        let mut trouble = Trouble::begins(refused(503), SECOND);
        let forbidden = || WatchError::Forbidden { message: "no".to_owned(), right: "allow it".to_owned() };
        assert!(trouble.goes_on(forbidden(), SECOND * 2));
        assert!(!trouble.goes_on(forbidden(), SECOND * 3));
        assert!(trouble.goes_on(refused(503), SECOND * 4));
    }
}
