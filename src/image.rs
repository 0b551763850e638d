//! What is known of one image: the object that `describe` shows. Pure.

use serde::{Deserialize, Serialize};

/// What is known of one image, named by its digest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Image {}
