//! Which image an update finds in a place already, however many places there are. Pure.

use std::collections::HashMap;
use std::hash::Hash;

use crate::workload::{List, Slot};

/// Up to so many are searched through faster than they are hashed.
const FEW: usize = 8;

/// The images of an object before it is updated.
#[derive(Debug)]
pub(super) struct Before<'q>(Firsts<Place<'q>, &'q str>);

/// A container or a volume: a container is the same one in another list.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Place<'q> {
    name: &'q str,
    is_volume: bool,
}

impl<'q> Place<'q> {
    fn of(slot: &'q Slot<'_>) -> Self {
        Self { name: &slot.name, is_volume: slot.list == List::Volumes }
    }
}

impl<'q> Before<'q> {
    /// Of these slots; there are none before an object is created.
    pub(super) fn new(slots: &'q [Slot<'_>]) -> Self {
        Self(Firsts::new(slots.iter().map(|slot| (Place::of(slot), &*slot.image))))
    }

    /// The image of a slot was there.
    pub(super) fn has(&self, slot: &Slot<'_>) -> bool {
        self.0.get(&Place::of(slot)).is_some_and(|image| *image == slot.image)
    }
}

/// What was said first of each key. A look-up takes as long with many as with few.
#[derive(Debug)]
enum Firsts<K, V> {
    Few(Vec<(K, V)>),
    Many(HashMap<K, V>),
}

impl<K: Eq + Hash, V> Firsts<K, V> {
    fn new(entries: impl ExactSizeIterator<Item = (K, V)>) -> Self {
        if entries.len() <= FEW {
            return Self::Few(entries.collect());
        }
        let mut many = HashMap::with_capacity(entries.len());
        for (key, value) in entries {
            many.entry(key).or_insert(value);
        }
        Self::Many(many)
    }

    fn get(&self, key: &K) -> Option<&V> {
        match self {
            Self::Few(few) => few.iter().find(|(other, _)| other == key).map(|(_, value)| value),
            Self::Many(many) => many.get(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::hash::Hasher;

    use super::*;

    /// A key that counts how often it is compared.
    #[derive(Debug)]
    struct Counted<'c>(usize, &'c Cell<usize>);

    impl PartialEq for Counted<'_> {
        fn eq(&self, other: &Self) -> bool {
            self.1.set(self.1.get() + 1);
            self.0 == other.0
        }
    }

    impl Eq for Counted<'_> {}

    impl Hash for Counted<'_> {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.0.hash(state);
        }
    }

    #[test]
    fn a_look_up_compares_as_much_with_many_as_with_few() {
        for count in [FEW, FEW + 1, 1_000, 30_000] {
            let compared = Cell::new(0);
            let firsts = Firsts::new((0..count).map(|number| (Counted(number, &compared), number)));
            assert!((0..2 * count).all(|number| firsts.get(&Counted(number, &compared)).is_some() == (number < count)));
            assert!(compared.get() <= 2 * count * FEW, "{count}: {}", compared.get());
        }
    }

    #[test]
    fn of_those_with_one_name_the_first_counts() {
        let slot = |list, name: &'static str, image: &'static str| Slot {
            list,
            index: 0,
            name: name.into(),
            image: image.into(),
        };
        let twice = [slot(List::Volumes, "a", "0"), slot(List::Containers, "a", "1"), slot(List::Steps, "a", "2")];
        let others = (0..FEW).map(|_| slot(List::Sidecars, "", "3"));
        let many: Vec<_> = twice.clone().into_iter().chain(others).collect();
        for before in [&twice[..], &many[..]] {
            let has = |list, image| Before::new(before).has(&slot(list, "a", image));
            assert_eq!(
                [has(List::Volumes, "0"), has(List::InitContainers, "1"), has(List::Steps, "2")],
                [true, true, false]
            );
        }
        assert!(!Before::new(&[]).has(&twice[0]));
    }
}
