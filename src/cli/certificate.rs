//! The certificate of a server, from wherever it comes: read or made, and kept up to date from then on.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use super::lifecycle::endless;
use crate::config::CertificateSource;
use crate::controller::certificate::Keeper;
use crate::metrics::ServerMetrics;
use crate::server::certificate::{Certificate, Kept};
use crate::server::development;
use crate::store::kube::{self as cluster, Access};
use crate::supervisor::Supervisor;

/// Fills `certificate`. One in files is there when this ends, one that replicas share comes when the cluster answers.
/// Gives back its CA file if it is one of ours.
pub(super) async fn keep(
    certificate: Arc<Certificate>,
    source: &CertificateSource,
    access: &Access,
    metrics: ServerMetrics,
    supervisor: &mut Supervisor,
) -> anyhow::Result<Option<PathBuf>> {
    let (files, ca) = match source {
        CertificateSource::Files(files) => (files.clone(), None),
        CertificateSource::Development(folder) => {
            let (files, is_new) = development::keep_or_make(folder, Timestamp::now())?;
            if is_new {
                tracing::info!(folder = %folder.display(), "development certificate made");
            }
            (files, Some(folder.join(development::CA_FILE)))
        }
        CertificateSource::Shared(place, authority) => {
            let client = cluster::connect(access).await?;
            let keeper = Keeper::new(&client, place.clone(), authority.clone(), certificate, metrics);
            supervisor.spawn("certificate", endless(keeper.keep()));
            return Ok(None);
        }
    };
    supervisor.spawn("certificate", endless(Kept::load(files, certificate, metrics).await?.keep()));
    Ok(ca)
}
