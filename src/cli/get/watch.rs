//! What changes of a list after it was printed, until Ctrl-C. Looks again and again, at a directory and at a cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Listed, Row, text};
use crate::cli::backend::Backend;
use crate::cli::stdout;
use crate::cli::table::Columns;
use crate::store::home::HomeError;

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(1);

/// Versions by namespace and name.
type Versions = BTreeMap<(String, String), String>;

/// Prints what is new or changed since these rows, in the columns that they have. What is gone, and that nothing can be seen
/// for a while, is told on standard error.
pub(super) async fn follow<L: Listed, B: Backend>(
    listed: &L,
    backend: &B,
    rows: Vec<Row>,
    columns: Columns,
) -> anyhow::Result<()> {
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        ended = print_changes(listed, backend, &rows, columns) => ended,
    }
}

async fn print_changes<L: Listed, B: Backend>(
    listed: &L,
    backend: &B,
    rows: &[Row],
    mut columns: Columns,
) -> anyhow::Result<()> {
    let mut known = versions(rows);
    let mut trouble = String::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let rows = match look(listed, backend).await {
            Ok(rows) => rows,
            Err(error) => {
                let again = passing(error)?;
                if again != trouble {
                    eprintln!("{again}");
                }
                trouble = again;
                continue;
            }
        };
        trouble.clear();
        let now = versions(&rows);
        known.keys().filter(|row| !now.contains_key(*row)).for_each(|(_, name)| eprintln!("{name} is gone"));
        let changed: Vec<_> = rows.iter().filter(|row| known.get(&key(row)) != Some(&row.version)).collect();
        if !stdout::print(&text(listed, &changed, &mut columns)?)? {
            return Ok(());
        }
        known = now;
    }
}

async fn look<L: Listed, B: Backend>(listed: &L, backend: &B) -> anyhow::Result<Vec<Row>> {
    backend.refresh().await?;
    Ok(listed.find(backend).await?.rows)
}

/// What is wrong, if it may be otherwise at the next look.
fn passing(error: anyhow::Error) -> anyhow::Result<String> {
    match error.downcast_ref() {
        Some(HomeError::Unavailable(reason) | HomeError::Busy(reason, _)) => Ok(reason.clone()),
        _ => Err(error),
    }
}

fn key(row: &Row) -> (String, String) {
    (row.namespace.clone(), row.name.clone())
}

fn versions(rows: &[Row]) -> Versions {
    rows.iter().map(|row| (key(row), row.version.clone())).collect()
}
