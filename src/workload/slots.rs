//! What Pinstream reads of an object: its slots, who owns it, and whether it forces look-up.
//!
//! One pass over any serde input, borrowing from it; everything else in the object is skipped unread. A field
//! of an unexpected type holds no slots; the API server, not this, says what is wrong with it. A field that is read and
//! is there twice makes the object unreadable, as readers differ on which of the two counts.

mod tolerant;

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess};

use self::tolerant::{As, Entries, Entry, Flag, Object, Reader, Text, Tolerant, once, skip_seq, tolerant};
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
    /// Those of the input: it ends early, is no JSON, or repeats a field that is read or on the way to one.
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
            has_controller: !found.object.owner_references.0.is_empty(),
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

impl Entry for Owner {
    fn counts(&self) -> bool {
        self.controller.0
    }
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

impl Entry for Container<'_> {
    fn counts(&self) -> bool {
        self.image.0.is_some()
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Volume<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    image: ImageVolume<'a>,
}

impl Entry for Volume<'_> {
    fn counts(&self) -> bool {
        self.image.0.0.is_some()
    }
}

#[derive(Default)]
struct ImageVolume<'a>(Text<'a>);

impl<'a> PodSpec<'a> {
    fn slots(self) -> Vec<Slot<'a>> {
        let as_container = |volume: Volume<'a>| Container { name: volume.name, image: volume.image.0 };
        let volumes = self.volumes.0.into_iter().map(|(index, volume)| (index, as_container(volume)));
        let volumes = Entries(volumes.collect());
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
            for (index, entry) in entries.0 {
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
        let (mut metadata, mut next) = (false, false);
        while let Some(Text(key)) = map.next_key()? {
            let key = key.as_deref().unwrap_or_default();
            match self.path.split_first() {
                _ if self.is_object && key == "metadata" => {
                    once(&mut metadata, key)?;
                    self.found.object = map.next_value::<Object<_>>()?.0;
                }
                Some((first, path)) if first == key => {
                    once(&mut next, key)?;
                    map.next_value_seed(Way { path, is_object: false, found: self.found })?;
                }
                None if key == "metadata" => {
                    once(&mut metadata, key)?;
                    self.found.template = map.next_value::<Object<_>>()?.0;
                }
                None if key == "spec" => {
                    once(&mut next, key)?;
                    self.found.spec = map.next_value::<Object<_>>()?.0;
                }
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
        let (mut reference, mut is_read) = (Text(None), false);
        while let Some(Text(key)) = map.next_key()? {
            if let Some(key @ "reference") = key.as_deref() {
                once(&mut is_read, key)?;
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
        let (mut force, mut excepted) = (false, false);
        while let Some(Text(key)) = map.next_key()? {
            match key.as_deref() {
                Some(key @ RESOLVE_NAMES) => {
                    once(&mut force, key)?;
                    annotations.force = map.next_value::<Text<'_>>()?.0.as_deref() == Some("*");
                }
                Some(key @ POLICY_EXCEPT) => {
                    once(&mut excepted, key)?;
                    annotations.excepted = map.next_value::<Text<'_>>()?.0.unwrap_or_default();
                }
                // Others can be long, and need not be text.
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(annotations)
    }
}

#[cfg(test)]
mod tests;
