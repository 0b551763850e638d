//! Sums of an audit: of a namespace, or of several. Pure.

use jiff::Timestamp;

use super::Standing;

/// Something counted by [`Standing::STATES`].
pub type Counts = [usize; 5];

/// Sums of a namespace, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Containers by state.
    pub containers: Counts,
    /// Pods by the worst state of their containers.
    pub pods: Counts,
    /// How many steps the container that is furthest behind is behind.
    pub steps: usize,
    /// Since when the container that is behind longest is.
    pub behind_since: Option<Timestamp>,
}

impl Sums {
    /// All containers.
    #[must_use]
    pub fn total(&self) -> usize {
        self.containers.iter().sum()
    }

    /// Adds those of another namespace.
    pub fn add(&mut self, other: &Self) {
        self.containers.iter_mut().zip(other.containers).for_each(|(own, other)| *own += other);
        self.pods.iter_mut().zip(other.pods).for_each(|(own, other)| *own += other);
        self.steps = self.steps.max(other.steps);
        self.behind_since = self.behind_since.into_iter().chain(other.behind_since).min();
    }

    pub(super) fn look_back(&mut self, standing: &Standing) {
        if let Standing::Behind(place) = standing {
            self.steps = self.steps.max(place.steps);
            self.behind_since = self.behind_since.into_iter().chain(place.since).min();
        }
    }
}
