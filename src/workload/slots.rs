//! What Pinstream reads of an object: its slots, who owns it, and whether it forces look-up.
//!
//! One pass over any serde input, borrowing from it; everything else in the object is skipped unread. A field
//! of an unexpected type holds no slots; the API server, not this, says what is wrong with it.

mod tolerant;

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess};

use self::tolerant::{As, Entries, Flag, Object, Reader, Text, Tolerant, skip_seq, tolerant};
use super::kinds::Kind;

/// Annotation on an object or its pod template that makes every image be looked up, whatever its registry
/// and namespace and whether or not the stream allows it; its value is `*`.
pub const RESOLVE_NAMES: &str = "alpha.image.policy.openshift.io/resolve-names";

/// Annotation on an object or its pod template that excepts images from the policy; its value is `*`, or names of
/// containers and volumes with commas between them.
pub const POLICY_EXCEPT: &str = "pinstream.dev/policy-except";

/// What admission needs to know of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload<'a> {
    /// `metadata.name`, else `metadata.generateName` with a `*` behind it, else empty.
    pub name: Cow<'a, str>,
    /// [`RESOLVE_NAMES`] is `*` on the object or its template.
    pub force: bool,
    /// Values of [`POLICY_EXCEPT`] on the object and on its template; empty if there is none.
    pub excepted: [Cow<'a, str>; 2],
    /// An owner reference says `controller: true`.
    pub has_controller: bool,
    /// Every place that holds an image, in the order init containers, containers, others.
    pub slots: Vec<Slot<'a>>,
}

/// One place in an object where an image string stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot<'a> {
    /// The list it is in.
    pub list: List,
    /// Its place in the list, from 0.
    pub index: usize,
    /// Name of the container or volume.
    pub name: Cow<'a, str>,
    /// The reference, exactly as it was written.
    pub image: Cow<'a, str>,
}

/// The lists of a pod spec whose entries have an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// Init containers.
    InitContainers,
    /// Containers.
    Containers,
    /// Ephemeral containers.
    EphemeralContainers,
    /// Volumes, those of type `image`.
    Volumes,
    /// Steps, which Tekton has in place of containers.
    Steps,
    /// Sidecars, likewise Tekton's.
    Sidecars,
}

impl List {
    /// The field of the pod spec.
    #[must_use]
    pub fn field(self) -> &'static str {
        match self {
            Self::InitContainers => "initContainers",
            Self::Containers => "containers",
            Self::EphemeralContainers => "ephemeralContainers",
            Self::Volumes => "volumes",
            Self::Steps => "steps",
            Self::Sidecars => "sidecars",
        }
    }
}

impl Slot<'_> {
    /// JSON pointer to the image string in an object of that kind.
    #[must_use]
    pub fn pointer(&self, kind: &Kind) -> String {
        let below = if self.list == List::Volumes { "image/reference" } else { "image" };
        [kind.template(), "/spec/", self.list.field(), "/", &self.index.to_string(), "/", below].concat()
    }
}

impl<'a> Workload<'a> {
    /// Reads an object of that kind.
    ///
    /// # Errors
    /// Those of the input: it ends early, is no JSON, or repeats a field.
    pub fn read<D: Deserializer<'a>>(kind: &Kind, deserializer: D) -> Result<Self, D::Error> {
        let mut found = Found::default();
        Way { path: kind.path(), is_object: true, found: &mut found }.deserialize(deserializer)?;
        let generated = || {
            let prefix = found.object.generate_name.0.as_deref().filter(|prefix| !prefix.is_empty());
            prefix.map_or(Cow::Borrowed(""), |prefix| Cow::Owned(format!("{prefix}*")))
        };
        Ok(Self {
            name: found.object.name.0.clone().filter(|name| !name.is_empty()).unwrap_or_else(generated),
            force: found.object.annotations.force || found.template.annotations.force,
            excepted: [found.object.annotations.excepted, found.template.annotations.excepted],
            has_controller: found.object.owner_references.0.iter().any(|owner| owner.controller.0),
            slots: found.spec.slots(),
        })
    }
}

/// What was come across on the way to and in the pod template.
#[derive(Default)]
struct Found<'a> {
    object: Metadata<'a>,
    template: Metadata<'a>,
    spec: PodSpec<'a>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    generate_name: Text<'a>,
    #[serde(borrow)]
    annotations: Annotations<'a>,
    owner_references: Entries<Owner>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Owner {
    controller: Flag,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec<'a> {
    #[serde(borrow)]
    init_containers: Entries<Container<'a>>,
    #[serde(borrow)]
    containers: Entries<Container<'a>>,
    #[serde(borrow)]
    ephemeral_containers: Entries<Container<'a>>,
    #[serde(borrow)]
    volumes: Entries<Volume<'a>>,
    #[serde(borrow)]
    steps: Entries<Container<'a>>,
    #[serde(borrow)]
    sidecars: Entries<Container<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Container<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    image: Text<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Volume<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    image: ImageVolume<'a>,
}

#[derive(Default)]
struct ImageVolume<'a>(Text<'a>);

impl<'a> PodSpec<'a> {
    fn slots(self) -> Vec<Slot<'a>> {
        let volumes = Entries(
            self.volumes.0.into_iter().map(|volume| Container { name: volume.name, image: volume.image.0 }).collect(),
        );
        let lists = [
            (List::InitContainers, self.init_containers),
            (List::Containers, self.containers),
            (List::EphemeralContainers, self.ephemeral_containers),
            (List::Volumes, volumes),
            (List::Steps, self.steps),
            (List::Sidecars, self.sidecars),
        ];
        let mut slots = Vec::new();
        for (list, entries) in lists {
            for (index, entry) in entries.0.into_iter().enumerate() {
                if let Some(image) = entry.image.0 {
                    slots.push(Slot { list, index, name: entry.name.0.unwrap_or_default(), image });
                }
            }
        }
        slots
    }
}

/// Walks from an object down to its pod template.
struct Way<'k, 'f, 'a> {
    path: &'k [String],
    is_object: bool,
    found: &'f mut Found<'a>,
}

impl<'a> DeserializeSeed<'a> for Way<'_, '_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(Tolerant(self))
    }
}

impl<'a> Reader<'a> for Way<'_, '_, 'a> {
    type Value = ();

    fn map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Text(key)) = map.next_key()? {
            let key = key.as_deref().unwrap_or_default();
            match self.path.split_first() {
                _ if self.is_object && key == "metadata" => self.found.object = map.next_value::<Object<_>>()?.0,
                Some((first, path)) if first == key => {
                    map.next_value_seed(Way { path, is_object: false, found: self.found })?;
                }
                None if key == "metadata" => self.found.template = map.next_value::<Object<_>>()?.0,
                None if key == "spec" => self.found.spec = map.next_value::<Object<_>>()?.0,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }

    fn seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<(), A::Error> {
        let wanted = self.path.split_first().and_then(|(first, path)| Some((first.parse::<usize>().ok()?, path)));
        if let Some((index, path)) = wanted {
            for _ in 0..index {
                if seq.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(());
                }
            }
            seq.next_element_seed(Way { path, is_object: false, found: self.found })?;
        }
        skip_seq(seq)
    }

    fn other(self) {}
}

tolerant! { ['de: 'a, 'a] ImageVolume<'a>:
    fn map<A: MapAccess<'de>>(self, mut map: A) -> Result<ImageVolume<'a>, A::Error> {
        let mut reference = Text(None);
        while let Some(Text(key)) = map.next_key()? {
            if key.as_deref() == Some("reference") {
                reference = map.next_value()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(ImageVolume(reference))
    }
}

/// Annotations, of which only [`RESOLVE_NAMES`] and [`POLICY_EXCEPT`] are read.
#[derive(Default)]
struct Annotations<'a> {
    force: bool,
    excepted: Cow<'a, str>,
}

tolerant! { ['de: 'a, 'a] Annotations<'a>:
    fn map<A: MapAccess<'de>>(self, mut map: A) -> Result<Annotations<'a>, A::Error> {
        let mut annotations = Annotations::default();
        while let Some(Text(key)) = map.next_key()? {
            let Text(value) = map.next_value()?;
            match key.as_deref() {
                Some(RESOLVE_NAMES) => annotations.force |= value.as_deref() == Some("*"),
                Some(POLICY_EXCEPT) => annotations.excepted = value.unwrap_or_default(),
                _ => {}
            }
        }
        Ok(annotations)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::workload::Kinds;

    fn read<'a>(kind: &str, object: &'a Value) -> (Vec<(String, &'a str)>, Workload<'a>) {
        let kind = Kind::parse(kind).unwrap();
        let workload = Workload::read(&kind, object).unwrap();
        let slot = |slot: &Slot<'a>| {
            let pointer = slot.pointer(&kind);
            let image = object.pointer(&pointer).and_then(Value::as_str).unwrap();
            assert_eq!(image, slot.image);
            (pointer, image)
        };
        (workload.slots.iter().map(slot).collect(), workload)
    }

    #[test]
    fn every_list_of_a_pod_has_its_slots() {
        let pod = json!({"metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "a", "image": "one"}, {"name": "b"}, {"name": "c", "image": "two"}],
            "initContainers": [{"name": "i", "image": "zero"}],
            "ephemeralContainers": [{"name": "e", "image": "debug"}],
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "w", "image": {"reference": "data", "pullPolicy": "Always"}}]}});
        let (slots, workload) = read("/Pod=", &pod);
        let expected = [
            ("/spec/initContainers/0/image", "zero"),
            ("/spec/containers/0/image", "one"),
            ("/spec/containers/2/image", "two"),
            ("/spec/ephemeralContainers/0/image", "debug"),
            ("/spec/volumes/1/image/reference", "data"),
        ];
        assert_eq!(slots, expected.map(|(pointer, image)| (pointer.to_owned(), image)));
        assert_eq!((workload.name.as_ref(), workload.slots[4].name.as_ref()), ("p", "w"));
        assert!(!workload.force && !workload.has_controller);
    }

    #[rstest]
    #[case("apps/Deployment=/spec/template", "/spec/template/spec/containers/0/image")]
    #[case("batch/CronJob=/spec/jobTemplate/spec/template", "/spec/jobTemplate/spec/template/spec/containers/0/image")]
    #[case("/PodTemplate=/template", "/template/spec/containers/0/image")]
    #[case("x/Y=/a~1b/1/c", "/a~1b/1/c/spec/containers/0/image")]
    #[case("tekton.dev/Task=", "/spec/steps/0/image")]
    fn template_is_found_by_its_pointer(#[case] kind: &str, #[case] pointer: &str) {
        let mut object = json!("app:1");
        for token in pointer.split('/').skip(1).collect::<Vec<_>>().into_iter().rev() {
            object = match token {
                "0" => json!([object]),
                "1" => json!([null, object]),
                "a~1b" => json!({"a/b": object}),
                key => json!({key: object}),
            };
        }
        assert_eq!(read(kind, &object).0, [(pointer.to_owned(), "app:1")]);
    }

    #[rstest]
    #[case(json!({"metadata": {"annotations": {RESOLVE_NAMES: "*"}}}), true)]
    #[case(json!({"spec": {"template": {"metadata": {"annotations": {"a": "b", RESOLVE_NAMES: "*"}}}}}), true)]
    #[case(json!({"metadata": {"annotations": {RESOLVE_NAMES: "true"}}}), false)]
    #[case(json!({"metadata": {"annotations": {RESOLVE_NAMES: "kc"}}}), false)]
    #[case(json!({"metadata": {"labels": {RESOLVE_NAMES: "*"}}}), false)]
    #[case(json!({"spec": {"metadata": {"annotations": {RESOLVE_NAMES: "*"}}}}), false)]
    fn look_up_is_forced_by_object_or_template(#[case] object: Value, #[case] force: bool) {
        assert_eq!(read("apps/Deployment=/spec/template", &object).1.force, force);
    }

    #[test]
    fn exceptions_of_object_and_template_are_read() {
        let annotated = |value: Value| json!({"annotations": {"a": "b", POLICY_EXCEPT: value}});
        let object = json!({"metadata": annotated(json!("web, job")),
            "spec": {"template": {"metadata": annotated(json!("*"))}}});
        assert_eq!(read("apps/Deployment=/spec/template", &object).1.excepted, ["web, job", "*"]);
        let object = json!({"metadata": annotated(json!(1)), "spec": {"metadata": annotated(json!("*"))}});
        assert_eq!(read("/Pod=", &object).1.excepted, ["", ""]);
    }

    #[test]
    fn only_an_owner_that_controls_counts() {
        let owned = |flag: Value| json!({"metadata": {"ownerReferences": [{"name": "x"}, {"controller": flag}]}});
        assert!(read("/Pod=", &owned(json!(true))).1.has_controller);
        assert!(!read("/Pod=", &owned(json!(false))).1.has_controller);
        assert!(!read("/Pod=", &owned(json!(null))).1.has_controller);
    }

    #[test]
    fn generated_names_are_marked() {
        let pod = json!({"metadata": {"generateName": "web-"}});
        assert_eq!(read("/Pod=", &pod).1.name, "web-*");
    }

    #[rstest]
    #[case(json!({"spec": {"containers": "none", "volumes": {"image": {"reference": "x"}}, "steps": true}}))]
    #[case(json!({"spec": {"containers": [null, 1, "x", {"image": 5}, {"image": null}, {"image": ["x"]}]}}))]
    #[case(json!({"spec": {"volumes": [{"image": "x"}, {"image": {"reference": {}}}]}}))]
    #[case(json!({"spec": [], "metadata": 7}))]
    #[case(json!([{"spec": {"containers": [{"image": "x"}]}}]))]
    #[case(json!(null))]
    #[case(json!(1.5))]
    fn unexpected_types_hold_no_slots(#[case] object: Value) {
        assert_eq!(read("/Pod=", &object).0, []);
        assert_eq!(read("apps/Deployment=/spec/template", &object).0, []);
    }

    #[test]
    fn strings_without_escapes_are_borrowed() {
        let kinds = Kinds::default();
        let text = r#"{"spec": {"containers": [{"name": "a", "image": "one"}, {"image": "t\u0077o"}]}}"#;
        let mut json = serde_json::Deserializer::from_str(text);
        let workload = Workload::read(kinds.find("", "Pod").unwrap(), &mut json).unwrap();
        assert!(matches!(workload.slots[0].image, Cow::Borrowed("one")));
        assert_eq!(workload.slots[1].image, "two");
    }
}
