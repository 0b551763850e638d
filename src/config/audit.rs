//! Flags of the audit that the controller keeps.

use clap::Args;

use crate::controller::audit::Auditing;
use crate::metrics::AuditMetrics;

/// What is counted of Pods.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Audit")]
pub struct AuditArgs {
    /// Do not watch Pods: no metrics tell how far their images are from the image streams
    #[arg(long, env = "PINSTREAM_NO_AUDIT")]
    no_audit: bool,

    /// How many namespaces have metrics of their own, those with the most containers; the rest counts as (other)
    #[arg(long, value_name = "N", env = "PINSTREAM_AUDIT_NAMESPACES", default_value = "50")]
    audit_namespaces: usize,
}

impl AuditArgs {
    /// How to audit, if it is to be done.
    #[must_use]
    pub fn auditing(self, metrics: &AuditMetrics) -> Option<Auditing> {
        (!self.no_audit).then(|| Auditing { namespaces: self.audit_namespaces, metrics: metrics.clone() })
    }
}
