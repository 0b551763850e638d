//! The answering half of a review.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Serialize, Serializer};

use super::{API_VERSION, KIND};
use crate::admission::decide;

/// About the bytes of one operation of a patch, its pull spec of a hundred included.
const OPERATION_SIZE: usize = 240;
/// About the bytes of a response without its texts.
const RESPONSE_SIZE: usize = 256;
/// About the bytes that stand around a text of a response.
const TEXT_OVERHEAD: usize = 32;

/// What is answered. It allows, unless there is a refusal.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::admission) struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Refusal<'a>>,
    /// A JSON patch.
    #[serde(skip)]
    patch: Option<Vec<u8>>,
    /// What the user is told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What the API server's audit log keeps.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "as_map")]
    pub audit_annotations: Vec<(String, String)>,
}

/// Why an object is refused: the `Status` that the API server gives to its client.
#[derive(Serialize)]
pub(in crate::admission) struct Refusal<'a> {
    pub status: &'static str,
    pub code: u16,
    pub reason: &'static str,
    pub message: String,
    pub details: Details<'a>,
}

/// Which object is refused, and all that is wrong with it.
#[derive(Serialize)]
pub(in crate::admission) struct Details<'a> {
    pub name: &'a str,
    pub group: &'a str,
    pub kind: &'a str,
    pub causes: Vec<Cause>,
}

/// What is wrong with one field.
#[derive(Serialize)]
pub(in crate::admission) struct Cause {
    pub reason: &'static str,
    pub message: String,
    pub field: String,
}

impl<'a> Response<'a> {
    /// The object is stored as it is.
    pub(in crate::admission) fn allowed(uid: &'a str) -> Self {
        Self { uid, allowed: true, status: None, patch: None, warnings: Vec::new(), audit_annotations: Vec::new() }
    }

    /// The object is stored as it is, and the user is told why.
    pub(in crate::admission) fn left_alone(uid: &'a str, reason: &str) -> Self {
        let warning = decide::shorten(format!("pinstream changed nothing: {reason}"));
        Self { warnings: vec![warning], ..Self::allowed(uid) }
    }

    /// The object is stored with these changes, the operations of a JSON patch, if there are any.
    pub(in crate::admission) fn patched(uid: &'a str, operations: &[impl Serialize]) -> Self {
        let patch = (!operations.is_empty()).then(|| to_json(&operations, operations.len() * OPERATION_SIZE));
        Self { patch, ..Self::allowed(uid) }
    }

    /// The object is not stored.
    pub(in crate::admission) fn refused(uid: &'a str, refusal: Refusal<'a>) -> Self {
        Self { allowed: false, status: Some(refusal), ..Self::allowed(uid) }
    }

    pub(in crate::admission) fn to_bytes(&self) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Review<'r> {
            api_version: &'static str,
            kind: &'static str,
            response: &'r Response<'r>,
        }
        let texts = self.warnings.iter().chain(self.audit_annotations.iter().map(|(_, value)| value));
        let of_texts: usize = texts.map(|text| text.len() + TEXT_OVERHEAD).sum();
        let of_patch = self.patch.as_ref().map_or(0, |patch| patch.len() * 4 / 3);
        let mut json = to_json(
            &Review { api_version: API_VERSION, kind: KIND, response: self },
            of_texts + of_patch + RESPONSE_SIZE,
        );
        if let Some(patch) = &self.patch {
            // Nothing in it needs an escape, so it need not be looked through: the patch is the end of the response.
            json.truncate(json.len() - "}}".len());
            json.extend_from_slice(br#","patchType":"JSONPatch","patch":""#);
            encode_onto(&mut json, patch);
            json.extend_from_slice(br#""}}"#);
        }
        json
    }
}

/// Base64 as an AdmissionReview has it.
fn encode_onto(json: &mut Vec<u8>, bytes: &[u8]) {
    let start = json.len();
    json.resize(start + base64::encoded_len(bytes.len(), true).unwrap_or_default(), 0);
    STANDARD.encode_slice(bytes, &mut json[start..]).expect("there is room for just that");
}

/// `capacity` is a guess of the size; a good one saves moving what is written already.
fn to_json(value: &impl Serialize, capacity: usize) -> Vec<u8> {
    let mut json = Vec::with_capacity(capacity);
    serde_json::to_writer(&mut json, value)
        .expect("strings, numbers, booleans and lists of them always have a JSON form");
    json
}

fn as_map<S: Serializer>(entries: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(entries.iter().map(|(key, value)| (key, value)))
}
