//! Credentials of namespaces that were read lately. Must not read them itself.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::registry::Keyring;

/// How long the pull secrets of a namespace are used before they are read again.
const FRESH: Duration = Duration::from_secs(30);
/// The same once a registry refused them: whoever adds the right one asks again at once.
const REFUSED: Duration = Duration::from_secs(1);

/// Credentials by namespace, and until when they are used.
#[derive(Default)]
pub(super) struct Keyrings(Mutex<HashMap<String, (Instant, Keyring)>>);

impl Keyrings {
    /// Those of a namespace, if they are still used.
    pub(super) fn get(&self, namespace: &str, now: Instant) -> Option<Keyring> {
        let known = self.known();
        known.get(namespace).filter(|(until, _)| now < *until).map(|(_, keyring)| keyring.clone())
    }

    /// They were read at that time.
    pub(super) fn put(&self, namespace: &str, keyring: Keyring, now: Instant) {
        let mut known = self.known();
        known.retain(|_, (until, _)| now < *until);
        known.insert(namespace.to_owned(), (now + FRESH, keyring));
    }

    /// A registry refused them.
    pub(super) fn refused(&self, namespace: &str, now: Instant) {
        if let Some((until, _)) = self.known().get_mut(namespace) {
            *until = (*until).min(now + REFUSED);
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, (Instant, Keyring)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_anew_after_a_while_and_sooner_if_they_were_refused() {
        let (keyrings, began) = (Keyrings::default(), Instant::now());
        let is_used =
            |namespace: &str, seconds: f64| keyrings.get(namespace, began + Duration::from_secs_f64(seconds)).is_some();
        assert!(!is_used("demo", 0.0));
        keyrings.put("demo", Keyring::default(), began);
        keyrings.put("other", Keyring::default(), began);
        assert!(is_used("demo", 29.0) && !is_used("demo", 30.0));
        keyrings.refused("demo", began + Duration::from_secs(5));
        assert!(is_used("demo", 5.9) && !is_used("demo", 6.0) && is_used("other", 29.0));
        // Who is refused again and again does not keep them longer.
        keyrings.refused("demo", began + Duration::from_secs(20));
        assert!(!is_used("demo", 20.5));
    }
}
