//! The levels that namespaces say by their label. Only reads.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use kube::Client;

use super::objects::Item;
use super::watch::{Sink, Subject, WatchError, Watched};
use crate::policy::{LEVEL_LABEL, Level};
use crate::store::levels::CurrentLevels;
use crate::stream::Key;

/// What each labelled namespace says; nothing if that is no level.
type Said = HashMap<Box<str>, Option<Level>>;

/// Publishes what namespaces say.
pub struct LevelFeed {
    is_patient: bool,
    levels: Arc<CurrentLevels>,
    said: Said,
    /// What the list that is under way has brought.
    listed: Option<Said>,
}

impl Watched<LevelFeed> {
    /// Keeps the levels that the namespaces of a cluster say. They are settled once they were listed or cannot be; if it is not
    /// patient, after the first try, whatever comes of it.
    #[must_use]
    pub fn levels(client: Client, levels: Arc<CurrentLevels>, is_patient: bool) -> Self {
        Self::of(client, Subject::Levels, LevelFeed { is_patient, levels, said: Said::new(), listed: None })
    }
}

impl Sink for LevelFeed {
    fn begin_list(&mut self) {
        self.listed = Some(Said::new());
    }

    fn end_list(&mut self) {
        self.said = self.listed.take().unwrap_or_default();
    }

    /// What is no level is told once.
    fn apply(&mut self, item: Item) {
        let name = item.key().name;
        let Some(written) = item.level() else { return };
        let level = Level::parse(written);
        if let Err(error) = &level
            && self.said.get(&name) != Some(&None)
        {
            tracing::warn!(namespace = %name, %error, "label {LEVEL_LABEL} is passed over, the namespace has the default level");
        }
        self.listed.as_mut().unwrap_or(&mut self.said).insert(name, level.ok());
    }

    fn delete(&mut self, key: &Key) {
        self.said.remove(&key.name);
    }

    fn flush(&mut self) {
        self.levels.publish(self.said.iter().filter_map(|(name, level)| Some((name.clone(), (*level)?))));
        self.levels.settle();
    }

    fn is_current(&mut self) {}

    fn is_lost(&mut self, _since: Instant) {}

    fn has_failed(&mut self, error: &WatchError) {
        if !self.is_patient || !error.is_passing() {
            self.levels.settle();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::Levels;
    use crate::store::kube::watch::script::{Answer, End, event, page, refusal, server, status};

    fn namespace(name: &str, level: &str) -> Value {
        json!({"metadata": {"name": name, "resourceVersion": "7", "labels": {"other": "x", LEVEL_LABEL: level}},
            "spec": {"finalizers": ["kubernetes"]}})
    }

    /// The levels after the script.
    async fn levels(script: Vec<Answer>) -> Arc<CurrentLevels> {
        levels_if(true, script).await
    }

    async fn levels_if(is_patient: bool, script: Vec<Answer>) -> Arc<CurrentLevels> {
        let levels = Arc::new(CurrentLevels::new(Levels { default: Level::Warn, ..Levels::default() }));
        let (client, requests) = server(script);
        tokio::select! {
            () = Watched::levels(client, Arc::clone(&levels), is_patient).keep() => {}
            () = requests.are_over() => {}
        }
        levels
    }

    fn of(levels: &CurrentLevels, names: &[&str]) -> Vec<&'static str> {
        names.iter().map(|name| levels.get().of(name).label()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn levels_follow_labels() {
        let list = [namespace("a", "enforce"), namespace("b", "of"), namespace("c", "audit")];
        let events = vec![
            event("MODIFIED", &namespace("b", "audit")),
            event("MODIFIED", &namespace("a", "wrong")),
            event("DELETED", &namespace("c", "audit")),
            event("ADDED", &namespace("d", "enforce")),
        ];
        let before = levels(vec![page(&list, "7", "")]).await;
        assert_eq!(of(&before, &["a", "b", "c", "d"]), ["enforce", "warn", "audit", "warn"]);
        let after = levels(vec![page(&list, "7", ""), Answer::Events(events, End::Closed)]).await;
        assert_eq!(of(&after, &["a", "b", "c", "d"]), ["warn", "audit", "warn", "enforce"]);
    }

    #[tokio::test(start_paused = true)]
    async fn levels_are_those_of_the_last_whole_list() {
        let begun = page(&[namespace("a", "audit")], "6", "more");
        let whole = page(&[namespace("a", "enforce")], "7", "");
        let gone = Answer::Events(vec![event("ERROR", &status(410))], End::Open);
        let kept = levels(vec![whole, gone, begun, refusal(410)]).await;
        assert_eq!(of(&kept, &["a"]), ["enforce"]);
        let gone = Answer::Events(vec![event("ERROR", &status(410))], End::Open);
        let dropped = levels(vec![page(&[namespace("a", "enforce")], "7", ""), gone, page(&[], "9", "")]).await;
        assert_eq!(of(&dropped, &["a"]), ["warn"]);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_levels_that_cannot_be_read() {
        let asked = levels(vec![]).await;
        assert!(!asked.is_settled());
        let refused = levels(vec![refusal(403)]).await;
        assert!(refused.is_settled());
        assert_eq!(of(&refused, &["a"]), ["warn"]);
    }

    #[tokio::test(start_paused = true)]
    async fn levels_that_come_later_are_waited_for_unless_streams_need_no_cluster() {
        assert!(!levels(vec![refusal(503), refusal(429)]).await.is_settled());
        assert!(levels_if(false, vec![refusal(503)]).await.is_settled());
        let listed = levels(vec![refusal(503), page(&[namespace("a", "enforce")], "7", "")]).await;
        assert!(listed.is_settled());
        assert_eq!(of(&listed, &["a"]), ["enforce"]);
    }
}
