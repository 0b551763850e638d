//! What is due and waits for its turn, by namespace and by the registry that is to be asked. Pure.
//!
//! Each registry has a share of the places, so that one that is slow or silent holds up only its own streams, and each
//! namespace has one, of all places and of those of a registry, so that none takes what others need.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::agenda::Due;
use crate::fair::Shares;

/// How many may be worked on at a time, and how many of one registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// In all.
    pub all: usize,
    /// Of one registry.
    pub of_registry: usize,
}

/// What waits in one namespace.
#[derive(Debug, Default)]
struct Tenant {
    /// By registry, each with the number of its arrival.
    lines: HashMap<Arc<str>, VecDeque<(u64, Due)>>,
    /// The registries by the number of what is first in their line.
    heads: BTreeMap<u64, Arc<str>>,
}

/// Who waits, and how many are worked on.
#[derive(Debug)]
pub struct Queue {
    places: Places,
    waiting: BTreeMap<Box<str>, Tenant>,
    /// Which namespace has how many of all places, and of those of each registry.
    running: Shares,
    running_of: HashMap<Arc<str>, Shares>,
    arrived: u64,
    tags: usize,
}

impl Queue {
    /// An empty one.
    #[must_use]
    pub fn new(places: Places) -> Self {
        let running = Shares::new(places.all);
        Self { places, waiting: BTreeMap::new(), running, running_of: HashMap::new(), arrived: 0, tags: 0 }
    }

    /// Puts something at the end of the line of its namespace and registry.
    pub fn push(&mut self, due: Due) {
        self.arrived += 1;
        self.tags += due.tags.len();
        self.waiting.entry(due.key.namespace.clone()).or_default().push(self.arrived, due);
    }

    /// Takes out what came first of the namespace that has fewest places, if there is a place for it. That is taken
    /// until [`end`](Self::end).
    pub fn start(&mut self) -> Option<Due> {
        let candidates = self.waiting.iter().filter(|(namespace, _)| self.running.has_room_for(namespace));
        let candidates = candidates.filter_map(|(namespace, tenant)| {
            // Few are passed over: only a registry of which half the places are taken may have no room.
            let (number, _) = tenant.heads.iter().find(|(_, registry)| self.has_room(registry, namespace))?;
            Some((self.running.of(namespace), *number, namespace))
        });
        let (_, number, namespace) = candidates.min()?;
        let namespace = namespace.clone();
        let tenant = self.waiting.get_mut(&namespace)?;
        let due = tenant.pop(number)?;
        if tenant.heads.is_empty() {
            self.waiting.remove(&namespace);
        }
        let of_registry = self.places.of_registry;
        self.running_of.entry(Arc::clone(&due.registry)).or_insert_with(|| Shares::new(of_registry)).take(&namespace);
        self.running.take(&namespace);
        self.tags -= due.tags.len();
        Some(due)
    }

    /// Something of that namespace and registry is done.
    pub fn end(&mut self, namespace: &str, registry: &str) {
        let Some(of_registry) = self.running_of.get_mut(registry) else { return };
        of_registry.give_back(namespace);
        if of_registry.is_unused() {
            self.running_of.remove(registry);
        }
        self.running.give_back(namespace);
    }

    /// How many tags wait.
    #[must_use]
    pub fn tags(&self) -> usize {
        self.tags
    }

    fn has_room(&self, registry: &str, namespace: &str) -> bool {
        self.running_of.get(registry).is_none_or(|shares| shares.has_room_for(namespace))
    }
}

impl Tenant {
    fn push(&mut self, number: u64, due: Due) {
        let line = self.lines.entry(Arc::clone(&due.registry)).or_default();
        if line.is_empty() {
            self.heads.insert(number, Arc::clone(&due.registry));
        }
        line.push_back((number, due));
    }

    /// Takes out what has that number, which is the first in its line.
    fn pop(&mut self, number: u64) -> Option<Due> {
        let registry = self.heads.remove(&number)?;
        let line = self.lines.get_mut(&registry)?;
        let (_, due) = line.pop_front()?;
        match line.front() {
            Some((next, _)) => drop(self.heads.insert(*next, registry)),
            None => drop(self.lines.remove(&registry)),
        }
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Key;

    fn due(namespace: &str, registry: &str, name: &str) -> Due {
        Due { key: Key::new(namespace, name), number: 1, tags: vec!["1".to_owned()], registry: registry.into() }
    }

    fn taken(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.start()).map(|due| due.key.name.to_string()).collect()
    }

    #[test]
    fn registry_that_is_slow_holds_up_only_its_own() {
        let mut queue = Queue::new(Places { all: 20, of_registry: 4 });
        for number in 0..4 {
            queue.push(due("demo", "slow.example", &format!("slow-{number}")));
        }
        assert_eq!(taken(&mut queue), ["slow-0", "slow-1"]);
        for name in ["good-0", "good-1", "good-2"] {
            queue.push(due("demo", "good.example", name));
        }
        assert_eq!(taken(&mut queue), ["good-0", "good-1"]);
        queue.end("demo", "good.example");
        assert_eq!((taken(&mut queue), queue.tags()), (vec!["good-2".to_owned()], 2));
        queue.end("demo", "slow.example");
        assert_eq!(taken(&mut queue), ["slow-2"]);
    }

    #[test]
    fn namespace_that_wants_everything_leaves_a_place_to_who_comes_later() {
        let mut queue = Queue::new(Places { all: 8, of_registry: 4 });
        for number in 0..100 {
            queue.push(due("evil", &format!("{number}.evil.example"), &format!("evil-{number}")));
            queue.push(due("evil", "good.example", &format!("evil-good-{number}")));
        }
        assert_eq!(taken(&mut queue), ["evil-0", "evil-good-0", "evil-1", "evil-good-1"]);
        queue.push(due("demo", "good.example", "demo-0"));
        assert_eq!(taken(&mut queue), ["demo-0"]);
    }

    #[test]
    fn namespaces_take_turns_and_within_one_who_came_first_is_first() {
        let mut queue = Queue::new(Places { all: 3, of_registry: 3 });
        for number in 0..3 {
            queue.push(due("a", &format!("{}.example", 2 - number), &format!("a-{number}")));
        }
        queue.push(due("z", "z.example", "z-0"));
        queue.push(due("b", "a.example", "b-0"));
        assert_eq!(taken(&mut queue), ["a-0", "z-0", "b-0"]);
        queue.push(due("z", "z.example", "z-1"));
        queue.end("a", "2.example");
        assert_eq!(taken(&mut queue), ["a-1"]);
        queue.end("z", "z.example");
        assert_eq!(taken(&mut queue), ["z-1"]);
        for (namespace, registry) in [("a", "1.example"), ("z", "z.example"), ("b", "a.example")] {
            queue.end(namespace, registry);
        }
        assert_eq!(taken(&mut queue), ["a-2"]);
        queue.end("a", "0.example");
        assert!(queue.waiting.is_empty() && queue.running_of.is_empty() && queue.running.is_unused());
    }
}
