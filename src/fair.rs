//! Places that many share: nobody has more of them than he leaves free. Pure.
//!
//! Whoever comes alone gets half, the next a quarter, and so on: there is a place at once for who has none, whatever
//! others ask for, until as many have come as halving goes. A place that gets free then is for who has fewest.

use std::collections::HashMap;

/// Who has how many places.
#[derive(Debug)]
pub(crate) struct Shares {
    places: usize,
    taken: usize,
    by_owner: HashMap<Box<str>, usize>,
}

impl Shares {
    /// Nobody has any of so many.
    pub(crate) fn new(places: usize) -> Self {
        Self { places, taken: 0, by_owner: HashMap::new() }
    }

    /// How many somebody has.
    pub(crate) fn of(&self, owner: &str) -> usize {
        self.by_owner.get(owner).copied().unwrap_or_default()
    }

    /// Somebody may have one more.
    pub(crate) fn has_room_for(&self, owner: &str) -> bool {
        self.of(owner) < self.places.saturating_sub(self.taken)
    }

    /// Somebody has one more.
    pub(crate) fn take(&mut self, owner: &str) {
        self.taken += 1;
        match self.by_owner.get_mut(owner) {
            Some(count) => *count += 1,
            None => drop(self.by_owner.insert(owner.into(), 1)),
        }
    }

    /// Somebody has one less.
    pub(crate) fn give_back(&mut self, owner: &str) {
        let Some(count) = self.by_owner.get_mut(owner) else { return };
        *count -= 1;
        self.taken -= 1;
        if *count == 0 {
            self.by_owner.remove(owner);
        }
    }

    /// Nobody has any.
    pub(crate) fn is_unused(&self) -> bool {
        self.taken == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(shares: &mut Shares, owner: &str) -> usize {
        while shares.has_room_for(owner) {
            shares.take(owner);
        }
        shares.of(owner)
    }

    #[test]
    fn nobody_has_more_than_he_leaves_free() {
        let mut shares = Shares::new(20);
        let each: Vec<_> = ["a", "b", "c", "d", "e", "f"].iter().map(|owner| filled(&mut shares, owner)).collect();
        assert_eq!(each, [10, 5, 3, 1, 1, 0]);
        shares.give_back("a");
        assert!(!shares.has_room_for("a") && !shares.has_room_for("e"), "it is for who has none");
        assert_eq!(filled(&mut shares, "f"), 1);
    }

    #[test]
    fn what_is_given_back_is_as_if_it_had_never_been_taken() {
        let mut shares = Shares::new(1);
        assert_eq!(filled(&mut shares, "a"), 1, "the only one is everybody's");
        shares.give_back("b");
        assert!(!shares.has_room_for("b") && !shares.is_unused());
        shares.give_back("a");
        assert!(shares.has_room_for("b") && shares.is_unused() && shares.by_owner.is_empty());
    }
}
