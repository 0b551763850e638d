//! The places for connections: so many at a time. When all are taken, one that has not asked for anything yet makes room, the
//! oldest first, so that nobody can hold places by saying nothing.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// For so long nobody has to make room: a client that means to ask for something has done so by then.
const GRACE: Duration = Duration::from_millis(500);
/// So many newcomers are few, whatever became of them. What is known of one keeps the memory of its task, some 10 KB.
const FEW: usize = 64;

/// All places.
pub(super) struct Places {
    free: Arc<Semaphore>,
    /// Those who had not asked for anything yet when they came, oldest first; some have since, and some are gone.
    newcomers: VecDeque<Newcomer>,
    /// At how many of them those are forgotten who have, or are: at twice as many as there were not then.
    many: usize,
}

struct Newcomer {
    place: Weak<Place>,
    task: AbortHandle,
    since: Instant,
}

/// The place of a connection.
pub(super) struct Place(Mutex<Held>);

enum Held {
    /// Nothing was asked for yet.
    New(OwnedSemaphorePermit),
    Kept {
        _permit: OwnedSemaphorePermit,
    },
    /// Another has it.
    Lost,
}

impl Places {
    pub(super) fn new(limit: usize) -> Self {
        let free = Arc::new(Semaphore::new(limit.min(Semaphore::MAX_PERMITS)));
        Self { free, newcomers: VecDeque::new(), many: FEW }
    }

    /// Takes a place. Says whether another had to make room for it. `None` if there is none.
    pub(super) fn take(&mut self) -> Option<(Arc<Place>, bool)> {
        let free = Arc::clone(&self.free).try_acquire_owned().ok();
        let is_free = free.is_some();
        let permit = free.or_else(|| self.displace())?;
        Some((Arc::new(Place(Mutex::new(Held::New(permit)))), !is_free))
    }

    /// That task has the place.
    pub(super) fn given(&mut self, place: &Arc<Place>, task: AbortHandle) {
        if self.newcomers.len() >= self.many {
            self.newcomers.retain(|newcomer| newcomer.place.upgrade().is_some_and(|place| place.is_new()));
            self.many = FEW.max(self.newcomers.len() * 2);
        }
        self.newcomers.push_back(Newcomer { place: Arc::downgrade(place), task, since: Instant::now() });
    }

    /// Ends the oldest connection that has not asked for anything yet, if it had the time to.
    fn displace(&mut self) -> Option<OwnedSemaphorePermit> {
        while let Some(oldest) = self.newcomers.front() {
            let place = oldest.place.upgrade().filter(|place| place.is_new());
            if place.is_some() && oldest.since.elapsed() < GRACE {
                return None;
            }
            let oldest = self.newcomers.pop_front()?;
            if let Some(permit) = place.and_then(|place| place.give_up()) {
                oldest.task.abort();
                return Some(permit);
            }
        }
        None
    }
}

impl Place {
    /// Something was asked for: from now on it is not taken away.
    pub(super) fn keep(&self) {
        let mut held = self.held();
        *held = match std::mem::replace(&mut *held, Held::Lost) {
            Held::New(permit) => Held::Kept { _permit: permit },
            other => other,
        };
    }

    fn is_new(&self) -> bool {
        matches!(*self.held(), Held::New(_))
    }

    fn give_up(&self) -> Option<OwnedSemaphorePermit> {
        let mut held = self.held();
        match std::mem::replace(&mut *held, Held::Lost) {
            Held::New(permit) => Some(permit),
            other => {
                *held = other;
                None
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // No step of it can fail half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    struct Room {
        places: Places,
        tasks: JoinSet<()>,
    }

    impl Room {
        fn new(limit: usize) -> Self {
            Self { places: Places::new(limit), tasks: JoinSet::new() }
        }

        /// Somebody comes, who stays for ever.
        fn come(&mut self) -> Option<(Weak<Place>, bool)> {
            let (place, displaced) = self.places.take()?;
            let held = Arc::clone(&place);
            let task = self.tasks.spawn(async move {
                std::future::pending::<()>().await;
                drop(held);
            });
            self.places.given(&place, task);
            Some((Arc::downgrade(&place), displaced))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_not_asked_for_anything_makes_room_the_oldest_first() {
        let mut room = Room::new(3);
        let first: Vec<_> = (0..3).map(|_| room.come().unwrap().0).collect();
        assert!(room.come().is_none(), "nobody has had the time yet");
        first[0].upgrade().unwrap().keep();
        tokio::time::advance(GRACE).await;
        assert!(room.come().unwrap().1 && room.come().unwrap().1);
        assert!(room.come().is_none(), "one has asked for something, the others are young");
        assert!(room.tasks.join_next().await.unwrap().unwrap_err().is_cancelled());
        assert!(room.tasks.join_next().await.unwrap().unwrap_err().is_cancelled());
        let is_there: Vec<_> = first.iter().map(|place| place.upgrade().is_some()).collect();
        assert_eq!(is_there, [true, false, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_kept_of_those_who_are_gone_or_have_asked() {
        let mut room = Room::new(10_000);
        let silent: Vec<_> = (0..100).map(|_| room.come().unwrap().0).collect();
        for _ in 0..1000 {
            let (place, displaced) = room.come().unwrap();
            assert!(!displaced);
            place.upgrade().unwrap().keep();
            room.places.newcomers.back().unwrap().task.abort();
            room.tasks.join_next().await;
        }
        assert!(room.places.newcomers.len() <= 2 * silent.len());
        assert!(silent.iter().all(|place| place.upgrade().unwrap().is_new()));
    }
}
