//! One blob that is being fetched, and those who wait for it: whose credentials are tried, and what each is told.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::sync::watch;

use super::upstream::{Giver, Source};
use crate::digest::Digest;
use crate::mirror::catalogue::Origin;
use crate::mirror::storage::SpoolReader;
use crate::mirror::{Blob, Part, PullError};
use crate::reference::Reference;

/// What is fetched. Who wants the same blob from other repositories does not wait for these.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) origins: Vec<Origin>,
    /// The only namespace that it is fetched for, if others may not read along.
    pub(super) alone: Option<Box<str>>,
}

impl Wanted {
    /// Something of a size, from where a namespace has it from. Of several repositories one could let in who may not have
    /// what another sends, so others read along only where there is one.
    pub(super) fn new((digest, size): (&Digest, u64), source: &Source, alone: bool) -> Self {
        let alone = (alone || source.origins.len() > 1).then(|| source.namespace.clone());
        Self { digest: digest.clone(), size, origins: source.origins.clone(), alone }
    }

    /// The registry that is asked first.
    pub(super) fn registry(&self) -> Option<&str> {
        let origin = self.origins.first()?;
        Reference::parse(&origin.repository).ok()?.registry
    }
}

/// One blob that is being fetched.
pub(super) struct Fetch {
    pub(super) wanted: Wanted,
    reader: OnceLock<SpoolReader>,
    stage: watch::Sender<Stage>,
    turns: Mutex<Turns>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No registry gave anything yet.
    Waiting,
    /// It comes.
    Flowing,
    /// It is there, and right.
    Whole,
    /// It will not come.
    Failed,
}

/// Namespaces that wait, in whose names it is tried one after the other.
#[derive(Default)]
struct Turns {
    all: Vec<Turn>,
    next: usize,
    /// Nobody is taken in any more.
    is_over: bool,
}

/// A namespace that waits.
struct Turn {
    namespace: Box<str>,
    /// Who gave it in its name, or would.
    giver: Option<Giver>,
    /// Why it did not work in its name.
    told: Option<PullError>,
}

impl Fetch {
    pub(super) fn new(wanted: Wanted) -> Self {
        let stage = watch::Sender::new(Stage::Waiting);
        Self { wanted, reader: OnceLock::new(), stage, turns: Mutex::default() }
    }

    /// One more who waits; gives the number of its namespace. `None` if it is too late.
    pub(super) fn take_in(&self, namespace: &str) -> Option<usize> {
        let mut turns = self.turns();
        if turns.is_over {
            return None;
        }
        if let Some(known) = turns.all.iter().position(|turn| &*turn.namespace == namespace) {
            return Some(known);
        }
        turns.all.push(Turn { namespace: namespace.into(), giver: None, told: None });
        Some(turns.all.len() - 1)
    }

    /// The next namespace in whose name it is tried. If there is none, it is over.
    pub(super) fn next(&self) -> Option<(usize, Box<str>)> {
        let mut turns = self.turns();
        let turn = turns.next;
        let Some(namespace) = turns.all.get(turn).map(|turn| turn.namespace.clone()) else {
            turns.is_over = true;
            return None;
        };
        turns.next += 1;
        Some((turn, namespace))
    }

    /// It did not work in the name of that namespace, which alone is told why.
    pub(super) fn refused(&self, turn: usize, error: PullError) {
        if let Some(turn) = self.turns().all.get_mut(turn) {
            turn.told = Some(error);
        }
    }

    /// It will not work in anybody's name.
    pub(super) fn fail(&self, error: &PullError) {
        let mut turns = self.turns();
        turns.is_over = true;
        for turn in &mut turns.all {
            turn.told.get_or_insert_with(|| error.clone());
        }
    }

    /// There is a spool that can be read.
    pub(super) fn begins(&self, reader: SpoolReader) {
        let _ = self.reader.set(reader);
    }

    /// A repository sends it in the name of that namespace, or would.
    pub(super) fn opened(&self, turn: usize, giver: Giver) {
        if let Some(turn) = self.turns().all.get_mut(turn) {
            turn.giver = Some(match turn.giver.take() {
                Some(before) => before.and(&giver),
                None => giver,
            });
        }
    }

    /// Whether that namespace may read it, as soon as it comes: if it comes in its name, or to everybody. If neither is
    /// known, the repository has to be asked.
    pub(super) async fn allows(&self, turn: usize) -> Result<bool, PullError> {
        let is_known = |stage: &Stage| *stage != Stage::Waiting;
        let stage = self.stage.subscribe().wait_for(is_known).await.map_or(Stage::Failed, |stage| *stage);
        if stage == Stage::Failed {
            return Err(self.trouble(turn));
        }
        let turns = self.turns();
        if turns.all.iter().filter_map(|turn| turn.giver.as_ref()).any(|giver| giver.is_public) {
            return Ok(true);
        }
        match turns.all.get(turn) {
            Some(Turn { giver: None, told: Some(error), .. }) => Err(error.clone()),
            turn => Ok(turn.is_some_and(|turn| turn.giver.is_some())),
        }
    }

    /// Which namespaces were given it, and by whom.
    pub(super) fn given(&self) -> Vec<(Box<str>, Giver)> {
        let turns = self.turns();
        turns.all.iter().filter_map(|turn| Some((turn.namespace.clone(), turn.giver.clone()?))).collect()
    }

    /// A registry sends it.
    pub(super) fn flows(&self) {
        self.stage.send_if_modified(|stage| {
            let is_first = *stage == Stage::Waiting;
            if is_first {
                *stage = Stage::Flowing;
            }
            is_first
        });
    }

    /// A registry began to send it.
    pub(super) fn is_flowing(&self) -> bool {
        *self.stage.borrow() == Stage::Flowing
    }

    /// It is there, and right.
    pub(super) fn is_whole(&self) {
        self.stage.send_replace(Stage::Whole);
    }

    /// Nothing more happens to it.
    pub(super) fn ends(&self) {
        self.turns().is_over = true;
        self.stage.send_if_modified(|stage| {
            let is_failure = *stage != Stage::Whole;
            if is_failure {
                *stage = Stage::Failed;
            }
            is_failure
        });
    }

    /// A part of it, as soon as it comes, and the spool that it is read from. `turn` is the number of the namespace that wants
    /// it.
    pub(super) async fn blob(&self, part: Part, turn: usize) -> Result<(Blob, SpoolReader), PullError> {
        let size = self.wanted.size;
        let range = part.of(size).ok_or(PullError::Range(size))?;
        // Something without bytes has no last one that could be kept back.
        let is_known = |stage: &Stage| *stage != Stage::Waiting && (*stage != Stage::Flowing || size > 0);
        let mut stages = self.stage.subscribe();
        let stage = stages.wait_for(is_known).await.map_or(Stage::Failed, |stage| *stage);
        match self.reader.get() {
            Some(reader) if stage != Stage::Failed => {
                let body = withheld(reader, range.clone(), size);
                Ok((Blob { size, range, body }, reader.clone()))
            }
            _ => Err(self.trouble(turn)),
        }
    }

    fn trouble(&self, turn: usize) -> PullError {
        let told = self.turns().all.get(turn).and_then(|turn| turn.told.clone());
        told.unwrap_or_else(|| PullError::Upstream(format!("the download of {} was given up", self.wanted.digest)))
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A part of a spool. Its last byte comes when the whole was found right.
fn withheld(
    reader: &SpoolReader,
    range: std::ops::Range<u64>,
    size: u64,
) -> BoxStream<'static, std::io::Result<axum::body::Bytes>> {
    if range.end == size || range.is_empty() {
        // The spool keeps back its own last byte.
        return reader.read(range);
    }
    let last = range.end - 1..range.end;
    let judgement = reader.read(size - 1..size).filter_map(|piece| std::future::ready(piece.err().map(Err)));
    reader.read(range.start..last.start).chain(judgement).chain(reader.read(last)).boxed()
}
