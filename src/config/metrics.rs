//! Flags of metrics.

use clap::Args;

use crate::metrics::ResolvedMetrics;

/// What is counted beside what costs nothing.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Metrics")]
pub struct MetricsArgs {
    /// Count pinned images by image stream, for so many streams by name: those that are used first, the rest counts as
    /// (other)
    #[arg(long, value_name = "N", env = "PINSTREAM_METRICS_STREAMS")]
    metrics_streams: Option<usize>,
}

impl MetricsArgs {
    /// Has counted what is to be.
    pub fn set(self, metrics: &ResolvedMetrics) {
        if let Some(most) = self.metrics_streams {
            metrics.name(most);
        }
    }
}
