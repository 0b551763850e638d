//! The custom resources: image streams, made of the types in `stream::types`, and images. Pure.
//!
//! Says what a plain cluster stores, refuses and shows. Must not talk to a cluster.

use std::fmt::Write as _;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use crate::stream::types::{KIND, Spec, Status};

/// API group of the custom resource.
pub const GROUP: &str = "pinstream.dev";
/// Its version.
pub const VERSION: &str = "v1";
/// Its name in paths.
pub const PLURAL: &str = "imagestreams";
/// Name in paths of the custom resource of images.
pub const IMAGES_PLURAL: &str = "images";

/// A custom resource: where its manifest is kept, and what it says.
pub struct Resource {
    /// Its name in paths, and the name of its file under `charts/pinstream/files/crds`.
    pub plural: &'static str,
    definition: Value,
}

impl Resource {
    /// The manifest of the CustomResourceDefinition, YAML.
    ///
    /// # Errors
    /// If it has no YAML form, which none was seen to lack.
    pub fn manifest(&self) -> Result<String, serde_saphyr::ser::Error> {
        let plural = self.plural;
        let header = format!(
            "# A custom resource of Pinstream, made from its types; `pinstream crd` prints it. Renew it with:\n\
             # cargo run -- crd {plural} > charts/pinstream/files/crds/{plural}.yaml\n"
        );
        Ok(format!("{header}{}", serde_saphyr::to_string(&self.definition)?))
    }
}

/// Every custom resource there is.
#[must_use]
pub fn all() -> [Resource; 2] {
    [Resource { plural: PLURAL, definition: streams() }, Resource { plural: IMAGES_PLURAL, definition: images() }]
}

/// Image streams.
fn streams() -> Value {
    let names = json!({
        "kind": KIND, "listKind": format!("{KIND}List"), "plural": PLURAL, "singular": "imagestream",
        "shortNames": ["is"], "categories": ["all"]
    });
    let version = json!({
        "name": VERSION,
        "served": true,
        "storage": true,
        "subresources": {"status": {}},
        "additionalPrinterColumns": columns(),
        "schema": {"openAPIV3Schema": schema()},
    });
    definition(PLURAL, "Namespaced", &names, &version)
}

/// Images: what importing found out about them. Nobody but the controller writes them.
fn images() -> Value {
    let names = json!({
        "kind": "Image", "listKind": "ImageList", "plural": IMAGES_PLURAL, "singular": "image",
    });
    let columns = json!([
        {"name": "Image reference", "type": "string", "jsonPath": ".dockerImageReference",
         "description": "Where it was found first."},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
         "description": "When it was found first."},
    ]);
    let schema = json!({
        "type": "object",
        "description": "What is known of one image, named by its digest with a dash in place of the colon.",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
        },
        // It is OpenShift's Image, whose metadata is what the image's author put there.
        "x-kubernetes-preserve-unknown-fields": true,
    });
    let version = json!({
        "name": VERSION,
        "served": true,
        "storage": true,
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": schema},
    });
    definition(IMAGES_PLURAL, "Cluster", &names, &version)
}

fn definition(plural: &str, scope: &str, names: &Value, version: &Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{GROUP}")},
        "spec": {"group": GROUP, "scope": scope, "names": names, "versions": [version]},
    })
}

/// What `kubectl get` shows. A column can show one value of a list, and no count: hence the first tag, and the time
/// of the last write where OpenShift shows that of the newest image.
fn columns() -> Value {
    let column = |name: &str, kind: &str, path: &str, description: &str| json!({"name": name, "type": kind, "jsonPath": path, "description": description});
    json!([
        column("Repository", "string", ".status.dockerImageRepository", "Where the images can be pulled from."),
        column(
            "Tags (first)",
            "string",
            ".status.tags[*].tag",
            "The first tag that has an image; `kubectl get -o yaml` shows all."
        ),
        column(
            "Local lookup",
            "boolean",
            ".spec.lookupPolicy.local",
            "Objects of the namespace may use the stream by short name."
        ),
        column("Updated", "date", ".metadata.managedFields[-1:].time", "When the stream was last written to."),
        column("Age", "date", ".metadata.creationTimestamp", "When the stream was created."),
    ])
}

fn schema() -> Value {
    json!({
        "type": "object",
        "description": "A named, namespaced object: tags, each with a history of images, and policies.",
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": with_default(structural::<Spec>(), json!({})),
            "status": structural::<Status>(),
        },
    })
}

fn with_default(mut schema: Value, default: Value) -> Value {
    schema["default"] = default;
    schema
}

/// The schema of a type in the form that API servers ask for ("structural"), without references.
fn structural<T: JsonSchema>() -> Value {
    let mut settings = SchemaSettings::openapi3();
    settings.inline_subschemas = true;
    settings.meta_schema = None;
    settings.transforms.clear();
    let generator = settings.with_transform(RecursiveTransform(as_structural)).into_generator();
    generator.into_root_schema_for::<T>().to_value()
}

fn as_structural(schema: &mut Schema) {
    let Some(fields) = schema.as_object_mut() else { return };
    fields.remove("title");
    // What serde fills in when reading is not for the server to store.
    fields.remove("default");
    if let Some(default) = fields.remove(SERVER_DEFAULT) {
        fields.insert("default".to_owned(), default);
    }
    nullable(fields);
    variants(fields);
}

/// Set on a field whose value the server fills in when the user leaves it out.
const SERVER_DEFAULT: &str = "x-server-default";

/// `null` besides another type is not a type but a flag.
fn nullable(fields: &mut Map<String, Value>) {
    let is_null = |value: &Value| value == "null" || value["type"] == "null";
    for keyword in ["type", "anyOf"] {
        let Some(Value::Array(types)) = fields.get_mut(keyword) else { continue };
        let before = types.len();
        types.retain(|value| !is_null(value));
        if let ([_], true) = (types.as_slice(), types.len() < before) {
            let only = types.remove(0);
            fields.remove(keyword);
            match only {
                Value::Object(only) => only.into_iter().for_each(|(key, value)| {
                    fields.entry(key).or_insert(value);
                }),
                name => {
                    fields.insert(keyword.to_owned(), name);
                }
            }
            fields.insert("nullable".to_owned(), Value::Bool(true));
        }
    }
}

/// Constants, each with a description, become an enumeration that is described as a whole.
fn variants(fields: &mut Map<String, Value>) {
    let Some(Value::Array(variants)) = fields.remove("oneOf") else { return };
    let mut description = fields.get("description").and_then(Value::as_str).unwrap_or_default().to_owned();
    for variant in &variants {
        if let (Some(name), Some(text)) = (variant["const"].as_str(), variant["description"].as_str()) {
            let _ = write!(description, "\n{name:?}: {text}");
        }
    }
    let names = variants.iter().map(|variant| variant["const"].clone()).collect();
    fields.insert("type".to_owned(), "string".into());
    fields.insert("enum".to_owned(), Value::Array(names));
    fields.insert("description".to_owned(), description.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls `visit` with every schema below and including one.
    fn each(schema: &Value, visit: &mut impl FnMut(&Value)) {
        visit(schema);
        let properties = schema["properties"].as_object().into_iter().flat_map(|properties| properties.values());
        let below = properties.chain(schema.get("items")).chain(schema.get("additionalProperties"));
        below.for_each(|schema| each(schema, visit));
    }

    #[test]
    fn schema_is_structural() {
        let mut count = 0;
        each(&schema(), &mut |schema| {
            count += 1;
            assert!(schema["type"].is_string(), "{schema}");
            let fields = schema.as_object().unwrap();
            for keyword in ["$ref", "$schema", "title", "oneOf", "anyOf", "allOf", "const", SERVER_DEFAULT] {
                assert!(!fields.contains_key(keyword), "{keyword} in {schema}");
            }
            assert!(schema["type"] != "integer" || schema["format"] == "int64", "{schema}");
        });
        assert!(count > 40, "{count}");
    }

    #[test]
    fn only_what_openshift_fills_in_has_a_default() {
        let mut defaults = Vec::new();
        each(&schema(), &mut |schema| defaults.extend(schema.get("default").cloned()));
        assert_eq!(defaults, [json!({}), json!({"local": false}), json!({"type": "Source"})]);
    }

    #[test]
    fn everything_users_write_is_described() {
        let schema = schema();
        let fields = schema["properties"]["spec"]["properties"]["tags"]["items"]["properties"].as_object().unwrap();
        assert!(fields.values().all(|field| field["description"].as_str().is_some_and(|text| !text.is_empty())));
        let policy = &fields["referencePolicy"]["properties"]["type"];
        assert_eq!(policy["enum"], json!(["Source", "Local", ""]));
        assert!(policy["description"].as_str().unwrap().contains("\n\"Local\": From the registry"), "{policy}");
        assert_eq!(fields["from"]["required"], json!(["kind", "name"]));
        let nullable: Vec<_> =
            fields.iter().filter(|(_, field)| field["nullable"] == true).map(|(name, _)| name).collect();
        assert_eq!(nullable, ["annotations", "generation"]);
    }
}
