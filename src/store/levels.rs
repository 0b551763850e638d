//! The level of the policy of each namespace as it is now, swapped as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, Guard};

use crate::policy::{Level, Levels};

/// The current levels: those that flags say, and over them those that namespaces say themselves.
#[derive(Debug)]
pub struct CurrentLevels {
    said: Levels,
    current: ArcSwap<Levels>,
    settled: AtomicBool,
}

impl CurrentLevels {
    /// Begins with what flags say.
    #[must_use]
    pub fn new(said: Levels) -> Self {
        Self { current: ArcSwap::from_pointee(said.clone()), said, settled: AtomicBool::new(false) }
    }

    /// The levels. Whoever holds them sees one state, whatever is published meanwhile.
    #[must_use]
    pub fn get(&self) -> Guard<Arc<Levels>> {
        self.current.load()
    }

    /// What namespaces say was asked for at least once, whatever came of it, or nobody is to be asked.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// From now on it is settled.
    pub fn settle(&self) {
        self.settled.store(true, Ordering::Release);
    }

    /// Makes these the levels that namespaces say themselves.
    pub fn publish(&self, own: impl IntoIterator<Item = (Box<str>, Level)>) {
        let mut levels = self.said.clone();
        levels.namespaces.extend(own);
        self.current.store(Arc::new(levels));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_wins_over_flags_as_long_as_it_says_something() {
        let said = Levels { default: Level::Audit, namespaces: [("a".into(), Level::Warn)].into() };
        let levels = CurrentLevels::new(said);
        assert_eq!(levels.get().of("a"), Level::Warn);
        levels.publish([("a".into(), Level::Enforce), ("b".into(), Level::Enforce)]);
        let held = levels.get();
        assert_eq!((held.of("a"), held.of("b"), held.of("c")), (Level::Enforce, Level::Enforce, Level::Audit));
        levels.publish([]);
        assert_eq!((levels.get().of("a"), levels.get().of("b")), (Level::Warn, Level::Audit));
        assert_eq!(held.of("b"), Level::Enforce);
    }
}
