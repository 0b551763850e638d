//! How long a job has its place, and in which portions it asks for its tags.

use std::collections::VecDeque;
use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::{Instant, timeout_at};

use crate::stream::plan::{self, Wanted};

/// How many tags a job asks for at a time.
const TAGS_AT_A_TIME: usize = 8;
/// How many answers are put into a stream with one write at most.
const ANSWERS_A_WRITE: usize = 50;
/// For how long an answer waits for others that are written with it.
const TOGETHER: Duration = Duration::from_secs(2);
/// After how long a job asks for nothing further: others who wait come first.
const ASKING: Duration = Duration::from_secs(10);
/// After how long it gives up its place, whatever it waits for. That is more than one image may take once it is its turn
/// at the registry.
const WHOLE: Duration = Duration::from_mins(3);

/// The turn of a job.
pub(super) struct Turn {
    /// The registry whose place it has. `None`: it has none, and need not hurry.
    registry: Option<Arc<str>>,
    began: Instant,
}

/// Tags that are asked for.
pub(super) struct Asking<F: Future> {
    waiting: VecDeque<Wanted>,
    under_way: FuturesUnordered<F>,
    /// Ended, and not looked at.
    ended: Vec<F::Output>,
}

impl Turn {
    /// At a registry, from now on.
    pub(super) fn at(registry: Arc<str>) -> Self {
        Self { registry: Some(registry), began: Instant::now() }
    }

    /// Until everything is done.
    pub(super) fn whole() -> Self {
        Self { registry: None, began: Instant::now() }
    }

    /// It is asked for at the registry whose turn it is.
    pub(super) fn is_for(&self, wanted: &Wanted) -> bool {
        self.registry.as_deref().is_none_or(|registry| registry == plan::registry(&wanted.source))
    }

    fn may_ask(&self) -> bool {
        self.registry.is_none() || self.began.elapsed() < ASKING
    }

    fn end(&self) -> Option<Instant> {
        self.registry.as_ref().map(|_| self.began + WHOLE)
    }
}

impl<T, E, F: Future<Output = Result<T, E>>> Asking<F> {
    pub(super) fn new(waiting: VecDeque<Wanted>) -> Self {
        Self { waiting, under_way: FuturesUnordered::new(), ended: Vec::new() }
    }

    /// Answers that are to be written together: all that come within a while. None if there are no more of them, or the
    /// turn is over.
    pub(super) async fn answers(&mut self, turn: &Turn, ask: impl Fn(Wanted) -> F) -> Result<Vec<T>, E> {
        let mut answers: Vec<T> = mem::take(&mut self.ended).into_iter().collect::<Result<_, E>>()?;
        let mut together = (!answers.is_empty()).then(|| Instant::now() + TOGETHER);
        while answers.len() < ANSWERS_A_WRITE {
            while self.under_way.len() < TAGS_AT_A_TIME && turn.may_ask() {
                let Some(wanted) = self.waiting.pop_front() else { break };
                self.under_way.push(ask(wanted));
            }
            let until = [together, turn.end()].into_iter().flatten().min();
            let next = self.under_way.next();
            let next = match until {
                Some(until) => timeout_at(until, next).await,
                None => Ok(next.await),
            };
            match next {
                Ok(Some(answer)) => answers.push(answer?),
                Ok(None) => break,
                Err(_) if turn.end().is_some_and(|end| end <= Instant::now()) => {
                    self.under_way.clear();
                    break;
                }
                Err(_) => break,
            }
            together = together.or_else(|| Some(Instant::now() + TOGETHER));
        }
        Ok(answers)
    }

    /// Does something else while answers come.
    pub(super) async fn beside<O>(&mut self, work: impl Future<Output = O>) -> O {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                Some(answer) = self.under_way.next() => self.ended.push(answer),
            }
        }
    }
}
