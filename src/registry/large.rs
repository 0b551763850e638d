//! Answers that are too large to be taken in any number at a time: who may take one in, and how fast it has to come.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::pace::Pace;
use crate::fair::Shares;

/// How many are taken in at a time: together with their limits this bounds memory.
const AT_A_TIME: usize = 8;
/// How many of one host.
const OF_HOST: usize = 2;
/// With how many bytes a second they have to come.
const LEAST_SPEED: u64 = 64 << 10;
/// For how long nothing need come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who takes in how many.
pub(super) struct Large {
    state: Mutex<State>,
    freed: Notify,
}

struct State {
    tenants: Shares,
    hosts: HashMap<Arc<str>, usize>,
}

/// The right to take one in.
pub(super) struct Permit<'a> {
    large: &'a Large,
    tenant: Arc<str>,
    host: Arc<str>,
    /// How long may still be waited for it.
    pub(super) pace: Pace,
}

impl Large {
    /// Nobody takes in any.
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State { tenants: Shares::new(AT_A_TIME), hosts: HashMap::new() }),
            freed: Notify::new(),
        }
    }

    /// Waits for the right to take in an answer of a host for a tenant.
    pub(super) async fn enter(&self, tenant: &Arc<str>, host: &str) -> Permit<'_> {
        loop {
            // Before the look, so that nothing that is freed after it is missed.
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if self.locked().take(tenant, host) {
                let pace = Pace::new(PATIENCE, LEAST_SPEED);
                return Permit { large: self, tenant: Arc::clone(tenant), host: host.into(), pace };
            }
            freed.await;
        }
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts one more, if there is room.
    fn take(&mut self, tenant: &str, host: &str) -> bool {
        let of_host = self.hosts.get(host).copied().unwrap_or_default();
        if of_host >= OF_HOST || !self.tenants.has_room_for(tenant) {
            return false;
        }
        self.tenants.take(tenant);
        self.hosts.insert(host.into(), of_host + 1);
        true
    }

    fn give_back(&mut self, tenant: &str, host: &str) {
        self.tenants.give_back(tenant);
        if let Some(count) = self.hosts.get_mut(host) {
            *count -= 1;
            if *count == 0 {
                self.hosts.remove(host);
            }
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.large.locked().give_back(&self.tenant, &self.host);
        self.large.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    async fn entered<'a>(large: &'a Large, tenant: &str, host: &str) -> Option<Permit<'a>> {
        timeout(Duration::from_hours(1), large.enter(&tenant.into(), host)).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn hosts_and_tenants_leave_room_for_others() {
        let large = Large::new();
        let mut held = Vec::new();
        for host in ["a", "a", "b", "b"] {
            held.extend(entered(&large, "loud", host).await);
        }
        assert_eq!(held.len(), 4);
        assert!(entered(&large, "loud", "c").await.is_none(), "a tenant has half");
        assert!(entered(&large, "quiet", "a").await.is_none(), "a host has two");
        assert!(entered(&large, "quiet", "c").await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_has_it_as_soon_as_it_is_given_back() {
        let large = Large::new();
        let held = [entered(&large, "one", "a").await, entered(&large, "two", "a").await];
        let waiting = entered(&large, "three", "a");
        let given_back = async { drop(held) };
        let (entered, ()) = tokio::join!(waiting, given_back);
        assert!(entered.is_some());
        drop(entered);
        let state = large.locked();
        assert!(state.hosts.is_empty() && state.tenants.is_unused());
    }
}
