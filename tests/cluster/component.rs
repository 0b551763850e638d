//! A program of a control plane, which can be killed and started again as it was.

use std::sync::Mutex;
use std::time::Duration;

use crate::process::Process;
use crate::waiting::eventually_within;

/// How long a start may take on a busy machine, with another try if the first comes to nothing.
const START: Duration = Duration::from_mins(2);

/// A program that runs unless it was killed. Dropping it kills it.
pub struct Component {
    name: &'static str,
    start: Start,
    process: Mutex<Option<Process>>,
}

/// How it is started.
pub type Start = Box<dyn Fn() -> Process + Send + Sync>;

impl Component {
    /// One that runs, and is started in that way again.
    pub fn new(name: &'static str, process: Process, start: Start) -> Self {
        Self { name, start, process: Mutex::new(Some(process)) }
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&self) {
        drop(self.process.lock().unwrap().take());
    }

    /// It ended by itself.
    pub fn has_ended(&self) -> bool {
        self.process.lock().unwrap().as_mut().is_some_and(Process::has_ended)
    }

    /// Starts it again at the same address, and waits until it is ready.
    pub fn start_again(&self, is_ready: impl Fn() -> bool) {
        let process = eventually_within(START, &format!("{} runs again", self.name), || {
            let mut process = (self.start)();
            let is_started = process.becomes_ready(self.name, &is_ready)?;
            if is_started { Ok(process) } else { Err("its port is taken".to_owned()) }
        });
        *self.process.lock().unwrap() = Some(process);
    }
}
