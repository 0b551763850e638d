//! What processes take while time goes by, and whether it grows.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::pinstream::ask;

/// What is looked at, by the names of the metrics.
const MEASURES: [&str; 4] = ["process_resident_memory_bytes", "process_open_fds", "process_threads", "pinstream_tasks"];
/// By how much of what it was memory may grow.
const MEMORY: f64 = 0.02;
/// By how much anyway, and by how much more in the first minutes, in which what an allocator keeps is not all there yet.
const KEPT: (f64, f64) = (1024.0 * 1024.0, 3.0 * 1024.0 * 1024.0);
const FIRST: Duration = Duration::from_mins(10);
/// How long it may take to come to rest; a quarter of what is shorter than four times that.
const REST: Duration = Duration::from_mins(5);
/// By how many descriptors, threads or tasks a process may have more after the load than before.
const LEFT: f64 = 3.0;

/// Looks at processes, by their names and then by measure.
#[derive(Default)]
pub struct Samples {
    under_load: BTreeMap<String, Vec<Sample>>,
    before: BTreeMap<String, Values>,
}

type Values = [f64; MEASURES.len()];

struct Sample {
    after: Duration,
    values: Values,
}

/// Looks at each process, of which the name and the port of its metrics are given.
fn look(processes: &[(String, u16)]) -> BTreeMap<String, Values> {
    let values = |(name, port): &(String, u16)| {
        let (_, text) = ask(*port, "/metrics").filter(|(status, _)| *status == 200)?;
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        Some((name.clone(), MEASURES.map(|name| value(name).unwrap_or(f64::NAN))))
    };
    processes.iter().filter_map(values).collect()
}

impl Samples {
    /// Of processes that have nothing to do yet.
    pub fn at_rest(processes: &[(String, u16)]) -> Self {
        Self { under_load: BTreeMap::new(), before: look(processes) }
    }

    pub fn take(&mut self, after: Duration, processes: &[(String, u16)]) {
        for (name, values) in look(processes) {
            self.under_load.entry(name).or_default().push(Sample { after, values });
        }
    }

    /// What is there now that the load is over and was not before it: what is still held though nobody needs it.
    pub fn left(&self, processes: &[(String, u16)]) -> Vec<String> {
        let now = look(processes);
        let mut left = Vec::new();
        for (process, before) in &self.before {
            let now = now.get(process).copied().unwrap_or([f64::NAN; MEASURES.len()]);
            // Memory may be needed again, so an allocator keeps it.
            for (measure, name) in MEASURES.iter().enumerate().skip(1) {
                if now[measure].is_nan() || now[measure] > before[measure] + LEFT {
                    left.push(format!("{name} of {process}: {} before, {} after", before[measure], now[measure]));
                }
            }
        }
        left
    }

    /// The memory that is more in the last quarter than it was once it had come to rest, in the mean, by more than it may.
    pub fn growth(&self) -> Vec<String> {
        let mut grown = Vec::new();
        for (process, samples) in &self.under_load {
            let length = end(samples);
            let rest = REST.min(length / 4);
            let (before, now) = (mean(samples, 0, rest..=2 * rest), mean(samples, 0, 3 * length / 4..=length));
            let most = before * (1.0 + MEMORY) + KEPT.0 + KEPT.1 * FIRST.div_duration_f64(length.max(FIRST));
            // What was not to be read is no good sign either.
            if now.is_nan() || before.is_nan() || now > most {
                grown.push(format!("memory of {process}: {before:.0}, then {now:.0}"));
            }
        }
        grown
    }
}

fn end(samples: &[Sample]) -> Duration {
    samples.last().map(|sample| sample.after).unwrap_or_default()
}

fn mean(samples: &[Sample], measure: usize, time: RangeInclusive<Duration>) -> f64 {
    let within = samples.iter().filter(|sample| time.contains(&sample.after));
    let values: Vec<f64> = within.map(|sample| sample.values[measure]).collect();
    values.iter().sum::<f64>() / f64::from(u32::try_from(values.len()).unwrap())
}

impl fmt::Display for Samples {
    /// A table: the mean of each quarter, and the most.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (process, samples) in &self.under_load {
            let quarter = end(samples) / 4;
            for (measure, name) in MEASURES.iter().enumerate() {
                let quarters = [0, 1, 2, 3].map(|number| number * quarter..=(number + 1) * quarter);
                let quarters = quarters.map(|time| format!("{:12.0}", mean(samples, measure, time))).concat();
                let most = samples.iter().map(|sample| sample.values[measure]).fold(0.0, f64::max);
                writeln!(formatter, "{process:48} {name:30} {quarters}   at most {most:.0}")?;
            }
        }
        Ok(())
    }
}
