//! That the policy inside the API server decides as the webhook does on objects made by chance, of kinds that may have any
//! content.

use serde_json::{Value, json};

use crate::control_plane::ControlPlane;
use crate::judges::{Judges, UNPINNED};
use crate::random::Random;
use crate::sending::{of_kind, with_digest};

crate::tests![objects_made_by_chance_are_judged_alike];

/// How many objects are made, and changed.
const COUNT: usize = 100;
/// One value in so many is of a type that nobody expects.
const ODD: u64 = 12;
/// Few, so that they are met again after a change.
const NAMES: [&str; 4] = ["a", "b", "", "*"];
const FIELDS: [&str; 6] = ["initContainers", "containers", "ephemeralContainers", "volumes", "steps", "sidecars"];

fn objects_made_by_chance_are_judged_alike(plane: &ControlPlane) {
    let judges = Judges::install(plane, &json!({"exceptions": ["excepted/*", "*/also-?"]}));
    let mut chance = Chance(Random::new());
    let objects: Vec<(&str, String)> =
        (0..COUNT).map(|number| (["Certificate", "Issuer"][number % 2], format!("object-{number}"))).collect();
    for (kind, name) in &objects {
        judges.store(kind, &chance.object(kind, name));
    }
    judges.enforce();
    let mut refused = [0; 2];
    for (kind, name) in &objects {
        let created = judges.judge(kind, &chance.object(kind, &format!("new-{name}")));
        let changed = of_kind(kind, chance.object(kind, name));
        let changed = judges.judge_change(kind, name, &|object| {
            let version = object["metadata"]["resourceVersion"].take();
            *object = changed.clone();
            object["metadata"]["resourceVersion"] = version;
        });
        refused[0] += usize::from(created.is_some());
        refused[1] += usize::from(changed.is_some());
    }
    assert!(refused.iter().all(|refused| (1..COUNT).contains(refused)), "always the same: {refused:?}");
}

/// Makes objects.
struct Chance(Random);

impl Chance {
    fn is_one_in(&mut self, count: u64) -> bool {
        self.0.below(count) == 0
    }

    fn pick<T: Clone>(&mut self, values: &[T]) -> T {
        let index = self.0.below(values.len().try_into().unwrap());
        values[usize::try_from(index).unwrap()].clone()
    }

    /// This, or something else.
    fn perhaps(&mut self, value: Value) -> Value {
        if !self.is_one_in(ODD) {
            return value;
        }
        let others = [json!(null), json!(1), json!(true), json!("x"), json!([]), json!(["x"]), json!({}), json!([{}])];
        self.pick(&others)
    }

    fn object(&mut self, kind: &str, name: &str) -> Value {
        let metadata = json!({"name": name, "annotations": {"pinstream.dev/policy-except": self.names()}});
        if kind == "Issuer" {
            let spec = self.spec();
            return json!({"metadata": metadata, "spec": spec});
        }
        let names = self.names();
        let names = self.perhaps(json!(names));
        let annotations = self.perhaps(json!({"pinstream.dev/policy-except": names}));
        let template_metadata = self.perhaps(json!({"annotations": annotations}));
        let template = json!({"metadata": template_metadata, "spec": self.spec()});
        let template = self.perhaps(template);
        let templates = self.pick(&[json!([{}, template]), json!({"1": template})]);
        let templates = self.perhaps(templates);
        let spec = self.perhaps(json!({"templates": templates}));
        json!({"metadata": metadata, "spec": spec})
    }

    /// A value of the annotation that excepts.
    fn names(&mut self) -> &'static str {
        self.pick(&["", "", "a", "b ,c", "*", ","])
    }

    fn spec(&mut self) -> Value {
        let mut spec = json!({});
        for field in FIELDS {
            if self.is_one_in(2) {
                let entries: Value = (0..self.0.below(3)).map(|_| self.entry(field)).collect();
                spec[field] = self.perhaps(entries);
            }
        }
        self.perhaps(spec)
    }

    fn entry(&mut self, field: &str) -> Value {
        let pinned = with_digest("sha256", 64);
        let image = self.pick(&[UNPINNED, "app", "", "excepted/app:1", "quay.io/also-1", &pinned]);
        let mut image = self.perhaps(json!(image));
        if field == "volumes" {
            image = self.perhaps(json!({"reference": image}));
        }
        let name = self.pick(&NAMES);
        let name = self.perhaps(json!(name));
        self.perhaps(json!({"name": name, "image": image}))
    }
}
