//! Whether the streams can be read, and what is wrong with them: told by whoever reads them, be it to resolve, to import or
//! to serve.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntGauge, Registry};

use super::added;

/// What is told of the source of the streams. A process that reads none tells that nothing is amiss.
#[derive(Clone, Debug)]
pub struct SourceMetrics {
    synced: IntGauge,
    age: Age,
    last_change: Gauge,
    problems: IntGauge,
}

impl SourceMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let integer = |name: &str, help: &str| added(registry, IntGauge::new(name, help)?);
        let age = Gauge::new(
            "pinstream_source_age_seconds",
            "0 while the source of the streams can be read, else for how long it could not be.",
        )?;
        Ok(Self {
            synced: integer("pinstream_source_synced", "1 while the source of the streams can be read.")?,
            age: added(registry, Age { gauge: age, lost_since: Arc::default() })?,
            last_change: added(
                registry,
                Gauge::new(
                    "pinstream_source_last_change_timestamp_seconds",
                    "When the streams last changed, in seconds since 1970.",
                )?,
            )?,
            problems: integer(
                "pinstream_source_problems",
                "Files, directories or objects of the source that something is wrong with.",
            )?,
        })
    }

    /// It is going to be read, and what is known of it is as old as this.
    pub fn is_sought(&self) {
        self.is_lost(Instant::now());
    }

    /// It can be read: what is known is as new as it can be.
    pub fn is_current(&self) {
        self.synced.set(1);
        self.age.set(None);
    }

    /// It cannot be read; what is known is as old as `since`, or older if it was lost before.
    pub fn is_lost(&self, since: Instant) {
        self.synced.set(0);
        let mut lost_since = self.age.lost_since.lock().unwrap_or_else(PoisonError::into_inner);
        lost_since.get_or_insert(since);
    }

    /// It is read no more.
    pub fn is_left(&self) {
        self.synced.set(0);
        self.age.set(None);
        self.problems.set(0);
    }

    /// The streams changed.
    pub fn changed(&self) {
        self.last_change.set(Timestamp::now().as_duration().as_secs_f64());
    }

    /// How many parts of it something is wrong with.
    pub fn problems(&self, count: usize) {
        self.problems.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

/// For how long something has not been known to be current; 0 while it is.
#[derive(Clone, Debug)]
struct Age {
    gauge: Gauge,
    lost_since: Arc<Mutex<Option<Instant>>>,
}

impl Age {
    fn set(&self, lost_since: Option<Instant>) {
        *self.lost_since.lock().unwrap_or_else(PoisonError::into_inner) = lost_since;
    }
}

impl Collector for Age {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let lost_since = *self.lost_since.lock().unwrap_or_else(PoisonError::into_inner);
        self.gauge.set(lost_since.map_or(0.0, |since| since.elapsed().as_secs_f64()));
        self.gauge.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_counts_from_when_the_source_is_sought_or_lost_and_not_where_nobody_reads_it() {
        let metrics = SourceMetrics::new(&Registry::new()).unwrap();
        let is_lost = || metrics.age.lost_since.lock().unwrap().is_some();
        assert!(!is_lost());
        metrics.is_sought();
        assert!(is_lost() && metrics.synced.get() == 0);
        metrics.is_current();
        assert!(!is_lost() && metrics.synced.get() == 1);
        let since = Instant::now();
        metrics.is_lost(since);
        metrics.is_lost(Instant::now());
        assert_eq!((*metrics.age.lost_since.lock().unwrap(), metrics.synced.get()), (Some(since), 0));
        metrics.is_left();
        assert!(!is_lost());
    }
}
