//! What processes take while time goes by, and whether it grows.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::pinstream::ask;

/// What is looked at, by the names of the metrics, and by how much of what it was each may grow, and by how much anyway.
const MEASURES: [(&str, f64, f64); 4] = [
    ("process_resident_memory_bytes", 0.05, 4.0 * 1024.0 * 1024.0),
    ("process_open_fds", 0.0, 8.0),
    ("process_threads", 0.0, 0.0),
    ("pinstream_tasks", 0.0, 16.0),
];

/// Looks at processes, by their names and then by measure.
#[derive(Default)]
pub struct Samples(BTreeMap<String, Vec<Sample>>);

struct Sample {
    after: Duration,
    values: [f64; MEASURES.len()],
}

impl Samples {
    /// Looks at each process, of which the name and the port of its metrics are given.
    pub fn take(&mut self, after: Duration, processes: &[(String, u16)]) {
        for (name, port) in processes {
            let Some((200, text)) = ask(*port, "/metrics") else { continue };
            let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
            let values = MEASURES.map(|(name, ..)| value(name).unwrap_or(f64::NAN));
            self.0.entry(name.clone()).or_default().push(Sample { after, values });
        }
    }

    /// What is more in the last quarter than it was in the second, in the mean, by more than it may. The first quarter is
    /// for coming to rest.
    pub fn growth(&self) -> Vec<String> {
        let mut grown = Vec::new();
        for (process, samples) in &self.0 {
            for (measure, (name, share, anyway)) in MEASURES.iter().enumerate() {
                let (before, now) = (mean(samples, measure, 1), mean(samples, measure, 3));
                // What was not to be read is no good sign either.
                if now.is_nan() || before.is_nan() || now > before * (1.0 + share) + anyway {
                    grown.push(format!("{name} of {process}: {before:.0}, then {now:.0}"));
                }
            }
        }
        grown
    }
}

/// Of a quarter of the time, which is numbered from 0.
fn mean(samples: &[Sample], measure: usize, quarter: u32) -> f64 {
    let end = samples.last().map(|sample| sample.after).unwrap_or_default();
    let is_within = |sample: &&Sample| (quarter * end / 4..=(quarter + 1) * end / 4).contains(&sample.after);
    let values: Vec<f64> = samples.iter().filter(is_within).map(|sample| sample.values[measure]).collect();
    values.iter().sum::<f64>() / f64::from(u32::try_from(values.len()).unwrap())
}

impl fmt::Display for Samples {
    /// A table: the mean of each quarter, and the most.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (process, samples) in &self.0 {
            for (measure, (name, ..)) in MEASURES.iter().enumerate() {
                let quarters = [0, 1, 2, 3].map(|quarter| format!("{:12.0}", mean(samples, measure, quarter))).concat();
                let most = samples.iter().map(|sample| sample.values[measure]).fold(0.0, f64::max);
                writeln!(formatter, "{process:48} {name:30} {quarters}   at most {most:.0}")?;
            }
        }
        Ok(())
    }
}
