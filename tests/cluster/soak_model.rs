//! What image streams stand for at any moment, by the account of who moves their tags; it asks nobody.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// For how long after a move is stored the image before it may still be answered: all replicas have to hear of it.
pub const GRACE: Duration = Duration::from_secs(5);

/// What each short name may stand for. Names are `NAMESPACE/STREAM:TAG`.
#[derive(Default)]
pub struct Model {
    tags: Mutex<BTreeMap<String, Vec<Entry>>>,
    latest: Mutex<Duration>,
}

/// What a tag stands for during some time.
struct Entry {
    /// Nothing while there is no such stream: then the name stays as it is.
    image: Option<String>,
    /// When the move to it began.
    from: Instant,
    /// When the move away from it was seen to be stored.
    until: Option<Instant>,
}

impl Model {
    /// A move of a tag begins: from now on it may be this, as well as what it was.
    pub fn begins(&self, name: &str, image: Option<String>) {
        let entry = Entry { image, from: Instant::now(), until: None };
        self.tags.lock().unwrap().entry(name.to_owned()).or_default().push(entry);
    }

    /// The last move of a tag is seen to be stored, by who asked for it.
    pub fn is_stored(&self, name: &str) {
        let now = Instant::now();
        let mut tags = self.tags.lock().unwrap();
        let Some((_, earlier)) = tags.get_mut(name).and_then(|entries| entries.split_last_mut()) else { return };
        for entry in earlier {
            entry.until.get_or_insert(now);
        }
    }

    /// Whether a name may have been answered with this, by somebody who asked then and has the answer now.
    pub fn may_be(&self, name: &str, image: &str, asked: Instant) -> Result<(), String> {
        let mut tags = self.tags.lock().unwrap();
        let Some(entries) = tags.get_mut(name) else { return Err(format!("{name} was never made")) };
        let is_over = |entry: &Entry| entry.until.is_some_and(|until| until.elapsed() > GRACE * 20);
        entries.retain(|entry| !is_over(entry));
        let written = name.split_once('/').map_or(name, |(_, short)| short);
        let is_this = |entry: &&Entry| entry.image.as_deref().unwrap_or(written) == image;
        // The one that was in force last; it may have been so before too.
        let late = entries
            .iter()
            .filter(is_this)
            .map(|entry| entry.until.map_or(Duration::ZERO, |until| asked.saturating_duration_since(until)));
        match late.min() {
            Some(late) if late <= GRACE => {
                let mut latest = self.latest.lock().unwrap();
                *latest = late.max(*latest);
                Ok(())
            }
            Some(late) => Err(format!("{name} became {image}, which it no longer was for {late:?}")),
            None => {
                let known = entries.iter().rev().take(4).map(|entry| (&entry.image, entry.from.elapsed()));
                let known: Vec<_> = known.collect();
                Err(format!("{name} became {image}, none of which it was last: {known:?}"))
            }
        }
    }

    /// How long after a move was stored the image before it was answered, at most.
    pub fn latest(&self) -> Duration {
        *self.latest.lock().unwrap()
    }
}
