//! File descriptors: as many as the system lets the process have.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Lets the process open as many files as its hard limit says. Usual soft limits are from the time of `select`, and lower
/// than the number of connections that a server takes.
pub fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let before = limit.current;
    limit.current = limit.maximum;
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => tracing::debug!(?before, now = ?limit.current, "limit of open files raised"),
        Err(error) => tracing::warn!(%error, limit = ?before, "limit of open files cannot be raised"),
    }
}
