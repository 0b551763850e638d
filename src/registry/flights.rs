//! Work that several want at the same time is done once. Nothing is kept for those who come later.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

/// What is under way.
pub(crate) struct Flights<K, V> {
    under_way: Mutex<HashMap<K, Arc<OnceCell<V>>>>,
}

/// One who waits. The last one takes the flight away, also if it does not wait until the end.
struct Passenger<'a, K: Eq + Hash, V> {
    flights: &'a Flights<K, V>,
    key: K,
    flight: Arc<OnceCell<V>>,
}

impl<K: Clone + Eq + Hash, V: Clone> Flights<K, V> {
    /// Nothing is under way.
    pub(crate) fn new() -> Self {
        Self { under_way: Mutex::new(HashMap::new()) }
    }

    /// The result of `work`, or of the same work that is under way already. If whoever does it goes away, another who
    /// waits does it.
    pub(crate) async fn share<F: Future<Output = V>>(&self, key: K, work: impl FnOnce() -> F) -> V {
        let flight = Arc::clone(self.locked().entry(key.clone()).or_default());
        let passenger = Passenger { flights: self, key, flight };
        passenger.flight.get_or_init(work).await.clone()
    }
}

impl<K: Eq + Hash, V> Flights<K, V> {
    fn locked(&self) -> MutexGuard<'_, HashMap<K, Arc<OnceCell<V>>>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash, V> Drop for Passenger<'_, K, V> {
    fn drop(&mut self) {
        let mut under_way = self.flights.locked();
        // One is the passenger's own, one that of the flights.
        if Arc::strong_count(&self.flight) == 2 {
            under_way.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::sync::Notify;
    use tokio::time::timeout;

    use super::*;

    /// Who counts how often it was done, and ends when it may.
    async fn work(done: &AtomicUsize, may_end: &Notify) -> usize {
        let number = done.fetch_add(1, Ordering::SeqCst);
        may_end.notified().await;
        number
    }

    #[tokio::test]
    async fn same_work_at_the_same_time_is_done_once_and_then_anew() {
        let (flights, done, may_end) = (Flights::new(), AtomicUsize::new(0), Notify::new());
        let one = flights.share("a", || work(&done, &may_end));
        let two = flights.share("a", || work(&done, &may_end));
        let other = flights.share("b", async || 7);
        let end = async { may_end.notify_one() };
        assert_eq!(tokio::join!(one, two, other, end), (0, 0, 7, ()));
        assert!(flights.locked().is_empty());
        may_end.notify_one();
        assert_eq!(flights.share("a", || work(&done, &may_end)).await, 1);
    }

    #[tokio::test]
    async fn another_takes_over_from_one_who_goes_away() {
        let (flights, done, may_end) = (Flights::new(), AtomicUsize::new(0), Notify::new());
        let mut first = Box::pin(flights.share("a", || work(&done, &may_end)));
        let mut second = Box::pin(flights.share("a", || work(&done, &may_end)));
        assert!(timeout(Duration::ZERO, &mut first).await.is_err());
        assert!(timeout(Duration::ZERO, &mut second).await.is_err());
        drop(first);
        may_end.notify_one();
        assert_eq!(second.await, 1);
        assert!(timeout(Duration::ZERO, flights.share("a", std::future::pending)).await.is_err());
        assert!(flights.locked().is_empty());
    }
}
