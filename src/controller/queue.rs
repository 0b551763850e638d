//! Streams that are due and wait for their turn, by the registry that is to be asked. Pure.
//!
//! Each registry has a share of the places, so that one that is slow or silent holds up only its own streams.

use std::collections::{BTreeMap, VecDeque};

use super::agenda::Due;

/// How many streams may be worked on at a time, and how many of one registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// In all.
    pub all: usize,
    /// Of one registry.
    pub of_registry: usize,
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Due>,
    running: usize,
}

/// Who waits, and how many are worked on.
#[derive(Debug)]
pub struct Queue {
    places: Places,
    lines: BTreeMap<String, Line>,
    running: usize,
    tags: usize,
}

impl Queue {
    /// An empty one.
    #[must_use]
    pub fn new(places: Places) -> Self {
        Self { places, lines: BTreeMap::new(), running: 0, tags: 0 }
    }

    /// Puts a stream at the end of the line of its registry.
    pub fn push(&mut self, due: Due) {
        self.tags += due.tags.len();
        self.lines.entry(due.registry.clone()).or_default().waiting.push_back(due);
    }

    /// Takes out a stream of the registry of which the fewest are worked on, if there is a place for one. Its place is
    /// taken until [`end`](Self::end).
    pub fn start(&mut self) -> Option<Due> {
        if self.running >= self.places.all {
            return None;
        }
        let may_run = |line: &&mut Line| !line.waiting.is_empty() && line.running < self.places.of_registry;
        let line = self.lines.values_mut().filter(may_run).min_by_key(|line| line.running)?;
        let due = line.waiting.pop_front()?;
        line.running += 1;
        self.running += 1;
        self.tags -= due.tags.len();
        Some(due)
    }

    /// A stream of that registry is done.
    pub fn end(&mut self, registry: &str) {
        let Some(line) = self.lines.get_mut(registry) else { return };
        line.running -= 1;
        self.running -= 1;
        if line.running == 0 && line.waiting.is_empty() {
            self.lines.remove(registry);
        }
    }

    /// How many tags wait.
    #[must_use]
    pub fn tags(&self) -> usize {
        self.tags
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Key;

    fn due(registry: &str, name: &str) -> Due {
        Due { key: Key::new("demo", name), tags: vec!["1".to_owned()], registry: registry.to_owned() }
    }

    fn taken(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.start()).map(|due| due.key.name.to_string()).collect()
    }

    #[test]
    fn registry_that_is_slow_holds_up_only_its_own() {
        let mut queue = Queue::new(Places { all: 5, of_registry: 2 });
        for number in 0..4 {
            queue.push(due("slow.example", &format!("slow-{number}")));
        }
        assert_eq!(taken(&mut queue), ["slow-0", "slow-1"]);
        for name in ["good-0", "good-1", "good-2"] {
            queue.push(due("good.example", name));
        }
        assert_eq!(taken(&mut queue), ["good-0", "good-1"]);
        queue.end("good.example");
        assert_eq!((taken(&mut queue), queue.tags()), (vec!["good-2".to_owned()], 2));
        queue.end("slow.example");
        assert_eq!(taken(&mut queue), ["slow-2"]);
    }

    #[test]
    fn there_are_never_more_than_places() {
        let mut queue = Queue::new(Places { all: 3, of_registry: 2 });
        for number in 0..6 {
            queue.push(due(&format!("r{}.example", number % 3), &number.to_string()));
        }
        assert_eq!(taken(&mut queue), ["0", "1", "2"]);
        for registry in ["r0.example", "r1.example", "r2.example"] {
            queue.end(registry);
        }
        assert_eq!(taken(&mut queue), ["3", "4", "5"]);
        for registry in ["r0.example", "r1.example", "r2.example"] {
            queue.end(registry);
        }
        assert!(queue.lines.is_empty() && queue.running == 0);
    }
}
