//! The tasks of the process: each has a name, and one that ends before its time is noticed.
//!
//! The only place that starts tasks, beside listeners, which own their connections, and the fetcher of blobs.

use std::collections::HashMap;
use std::future::Future;

use tokio::task::{Id, JoinSet};

/// Named tasks. Dropping the supervisor ends them all.
#[derive(Debug, Default)]
pub struct Supervisor {
    tasks: JoinSet<anyhow::Result<()>>,
    names: HashMap<Id, &'static str>,
}

impl Supervisor {
    /// Starts a task.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = anyhow::Result<()>> + Send + 'static) {
        let id = self.tasks.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Waits for the first task that ends, and says which it was and how it ended. A panic is an error too.
    pub async fn ended(&mut self) -> (&'static str, anyhow::Result<()>) {
        let (id, result) = match self.tasks.join_next_with_id().await {
            Some(Ok((id, result))) => (id, result),
            Some(Err(error)) => (error.id(), Err(error.into())),
            None => return std::future::pending().await,
        };
        (self.names.remove(&id).unwrap_or("unknown"), result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn task_that_ends_is_named() {
        let mut supervisor = Supervisor::default();
        supervisor.spawn("endless", std::future::pending());
        supervisor.spawn("broken", async { anyhow::bail!("no more") });
        let (name, result) = supervisor.ended().await;
        assert_eq!((name, result.unwrap_err().to_string()), ("broken", "no more".to_owned()));
        supervisor.spawn("panicking", async { panic!("oh") });
        let (name, result) = supervisor.ended().await;
        assert!(name == "panicking" && result.is_err());
    }
}
