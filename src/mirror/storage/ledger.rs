//! What a directory has, how much that is, and what was used last. Pure: files are others' business.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use crate::digest::Digest;

/// How often a use is written down beside the content, where other replicas see it.
const TOUCH: Duration = Duration::from_mins(5);
/// For how long what was found right is taken to be so.
const TRUST: Duration = Duration::from_hours(24);
/// When room is made it is made for a while: this share of the budget, one in so many.
const SLACK: u64 = 20;

/// What a directory has.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: HashMap<Digest, Entry>,
    bytes: u64,
    /// What changed since a look at the directory began, which the look knows nothing of.
    changed: Option<HashSet<Digest>>,
}

/// One thing that a directory has.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    size: u64,
    used: SystemTime,
    /// When its use was written down.
    touched: SystemTime,
    /// When its digest was found right.
    checked: Option<SystemTime>,
    /// It is there; otherwise it only has room.
    is_there: bool,
    /// How many are putting it there at the moment.
    coming: usize,
}

/// Something that is found when the directory is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub digest: Digest,
    pub size: u64,
    pub used: SystemTime,
}

/// What is to be done when something was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Use {
    /// Write it down.
    pub touch: bool,
    /// Its digest need not be worked out again.
    pub is_known: bool,
}

/// How many bytes are to be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shortage {
    /// At least.
    must: u64,
    /// So that it lasts for a while.
    enough: u64,
}

impl Shortage {
    fn of(wanted: u64, budget: u64) -> Option<Self> {
        let over = |limit: u64| wanted.saturating_sub(limit);
        (wanted > budget).then(|| Self { must: over(budget), enough: over(budget - budget / SLACK) })
    }

    /// What is to be taken out of these, least recently used first. What is needed only goes if it may, and if there is no
    /// other room. `None` if what may go is not enough.
    pub(super) fn victims(
        self,
        mut candidates: Vec<Found>,
        is_needed: impl Fn(&Digest) -> bool,
        may_take_needed: bool,
    ) -> Option<Vec<Found>> {
        candidates.sort_unstable_by(|one, other| (one.used, &one.digest).cmp(&(other.used, &other.digest)));
        let (mut victims, mut needed, mut freed) = (Vec::new(), Vec::new(), 0_u64);
        for candidate in candidates {
            if freed >= self.enough {
                break;
            }
            if is_needed(&candidate.digest) {
                needed.push(candidate);
            } else {
                freed += candidate.size;
                victims.push(candidate);
            }
        }
        for candidate in needed.into_iter().filter(|_| may_take_needed) {
            if freed >= self.must {
                break;
            }
            freed += candidate.size;
            victims.push(candidate);
        }
        (freed >= self.must).then_some(victims)
    }
}

impl Ledger {
    /// How much there is, and how much is about to be.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many things there are, or are about to be.
    pub(super) fn objects(&self) -> usize {
        self.entries.len()
    }

    /// Something is about to come, and has its room.
    pub(super) fn reserve(&mut self, digest: &Digest, size: u64, now: SystemTime) {
        self.change(digest);
        let entry = self.entries.entry(digest.clone()).or_insert_with(|| Entry::new(0, now));
        self.bytes = self.bytes - entry.size + size;
        entry.size = size;
        entry.coming += 1;
    }

    /// What was about to come has come, checked, or has not.
    pub(super) fn settle(&mut self, digest: &Digest, came: bool, now: SystemTime) {
        self.change(digest);
        let Some(entry) = self.entries.get_mut(digest) else { return };
        entry.coming = entry.coming.saturating_sub(1);
        if came {
            *entry = Entry { is_there: true, checked: Some(now), coming: entry.coming, ..Entry::new(entry.size, now) };
        }
        if entry.coming == 0 && !entry.is_there {
            self.forget(digest);
        }
    }

    /// Something is not there any more.
    pub(super) fn forget(&mut self, digest: &Digest) {
        self.change(digest);
        if let Some(entry) = self.entries.remove(digest) {
            self.bytes -= entry.size;
        }
    }

    /// Something is read.
    pub(super) fn use_of(&mut self, digest: &Digest, now: SystemTime) -> Use {
        // What others brought is learned of by the next look.
        let Some(entry) = self.entries.get_mut(digest) else { return Use { touch: true, is_known: false } };
        entry.used = entry.used.max(now);
        let touch = is_past(entry.touched, TOUCH, now);
        if touch {
            entry.touched = now;
        }
        Use { touch, is_known: entry.checked.is_some_and(|checked| !is_past(checked, TRUST, now)) }
    }

    /// Nobody is putting it there at the moment.
    pub(super) fn is_idle(&self, digest: &Digest) -> bool {
        self.entries.get(digest).is_none_or(|entry| entry.coming == 0)
    }

    /// Somebody else used it then. Gives whether that is news.
    pub(super) fn used_elsewhere(&mut self, digest: &Digest, used: SystemTime) -> bool {
        let Some(entry) = self.entries.get_mut(digest) else { return false };
        let is_news = used > entry.used.max(entry.touched);
        entry.used = entry.used.max(used);
        is_news
    }

    /// Something is there and right, whoever brought it.
    pub(super) fn checked(&mut self, digest: &Digest, size: u64, now: SystemTime) {
        self.change(digest);
        let entry = self.entries.entry(digest.clone()).or_insert_with(|| Entry::new(0, now));
        self.bytes = self.bytes - entry.size + size;
        *entry = Entry { size, checked: Some(now), is_there: true, ..entry.clone() };
    }

    /// How far something of that size leads over the budget. Nothing is to be taken out if it does not.
    pub(super) fn shortage(&self, digest: &Digest, size: u64, budget: u64) -> Option<Shortage> {
        // What is replaced takes no further room.
        let replaced = self.entries.get(digest).map_or(0, |entry| entry.size);
        Shortage::of(self.bytes.saturating_sub(replaced).saturating_add(size), budget)
    }

    /// How far what is there is over the budget.
    pub(super) fn excess(&self, budget: u64) -> Option<Shortage> {
        Shortage::of(self.bytes, budget)
    }

    /// What may be taken out, in no order.
    pub(super) fn candidates(&self) -> Vec<Found> {
        let idle = self.entries.iter().filter(|(_, entry)| entry.coming == 0);
        idle.map(|(digest, entry)| Found { digest: digest.clone(), size: entry.size, used: entry.used }).collect()
    }

    /// A look at the directory begins.
    pub(super) fn begin_look(&mut self) {
        self.changed = Some(HashSet::new());
    }

    /// A look at the directory found this. What changed meanwhile is as it is known here.
    pub(super) fn end_look(&mut self, found: Vec<Found>) {
        let changed = self.changed.take().unwrap_or_default();
        let mut entries = HashMap::with_capacity(found.len());
        for found in found.into_iter().filter(|found| !changed.contains(&found.digest)) {
            let mut entry = Entry { is_there: true, ..Entry::new(found.size, found.used) };
            if let Some(known) = self.entries.get(&found.digest).filter(|known| known.size == found.size) {
                entry.used = entry.used.max(known.used);
                entry.touched = entry.touched.max(known.touched);
                entry.checked = known.checked;
            }
            entries.insert(found.digest, entry);
        }
        let is_newer = |digest: &Digest, entry: &mut Entry| entry.coming > 0 || changed.contains(digest);
        entries.extend(self.entries.extract_if(|digest, entry| is_newer(digest, entry)));
        self.bytes = entries.values().map(|entry| entry.size).sum();
        self.entries = entries;
    }

    fn change(&mut self, digest: &Digest) {
        if let Some(changed) = &mut self.changed {
            changed.insert(digest.clone());
        }
    }
}

impl Entry {
    fn new(size: u64, used: SystemTime) -> Self {
        Self { size, used, touched: used, checked: None, is_there: false, coming: 0 }
    }
}

/// It is longer ago than that. What is to come is not past.
fn is_past(then: SystemTime, limit: Duration, now: SystemTime) -> bool {
    now.duration_since(then).is_ok_and(|age| age >= limit)
}

#[cfg(test)]
mod tests;
