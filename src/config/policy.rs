//! Flags of the policy: levels and exceptions.

use clap::Args;

use crate::policy::{Exceptions, Level, Levels};

/// What is done about images that are not pinned by digest.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Policy")]
pub struct PolicyArgs {
    /// What is done about images that are not pinned by digest after resolution: audit counts them, warn tells whoever
    /// writes the object, enforce refuses it. On a cluster a namespace says otherwise by the label pinstream.dev/policy
    #[arg(long, value_name = "LEVEL", env = "PINSTREAM_POLICY", default_value = "audit", value_parser = Level::parse)]
    policy: Level,

    /// The level of one namespace, such as production=enforce. Repeatable
    #[arg(
        long = "policy-namespace",
        value_name = "NAMESPACE=LEVEL",
        env = "PINSTREAM_POLICY_NAMESPACES",
        value_delimiter = ',',
        value_parser = namespace_level
    )]
    policy_namespaces: Vec<(String, Level)>,

    /// Images that need not be pinned, with * for any characters and ? for one, such as 'registry.k8s.io/pause:*'. The
    /// whole image has to fit. Repeatable
    #[arg(long, value_name = "PATTERN", env = "PINSTREAM_POLICY_EXCEPT", value_delimiter = ',', value_parser = pattern)]
    policy_except: Vec<String>,

    /// Do not let objects except their images by the annotation pinstream.dev/policy-except
    #[arg(long, env = "PINSTREAM_POLICY_IGNORE_ANNOTATIONS")]
    policy_ignore_annotations: bool,
}

/// What the policy has to do with a cluster.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Policy")]
pub struct ClusterPolicyArgs {
    /// Do not let namespaces say their level by the label pinstream.dev/policy. Then namespaces are not read
    #[arg(long, env = "PINSTREAM_POLICY_IGNORE_LABELS")]
    pub policy_ignore_labels: bool,

    /// Write an event for what the policy refuses, on the object or on the controller that would have it. Needs the right
    /// to create and patch events.events.k8s.io
    #[arg(long, env = "PINSTREAM_POLICY_EVENTS")]
    pub policy_events: bool,
}

impl PolicyArgs {
    /// The levels that are said.
    #[must_use]
    pub fn levels(&self) -> Levels {
        let namespaces = self.policy_namespaces.iter().map(|(namespace, level)| (namespace.as_str().into(), *level));
        Levels { default: self.policy, namespaces: namespaces.collect() }
    }

    /// What need not be pinned.
    #[must_use]
    pub fn exceptions(&self) -> Exceptions {
        Exceptions { images: self.policy_except.clone(), without_annotations: self.policy_ignore_annotations }
    }
}

fn namespace_level(written: &str) -> Result<(String, Level), String> {
    let (namespace, level) = written
        .split_once('=')
        .filter(|(namespace, _)| !namespace.is_empty())
        .ok_or("write NAMESPACE=LEVEL, such as production=enforce")?;
    Ok((namespace.to_owned(), Level::parse(level).map_err(|error| error.to_string())?))
}

/// Such as stand in image references, and wildcards.
fn pattern(written: &str) -> Result<String, String> {
    let is_one = |character: char| character.is_ascii_alphanumeric() || "._-/:@+*?".contains(character);
    if !written.is_empty() && written.chars().all(is_one) {
        return Ok(written.to_owned());
    }
    Err("write an image with * and ?, such as 'registry.k8s.io/pause:*'".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_namespaces_are_read() {
        assert_eq!(namespace_level("a=enforce"), Ok(("a".to_owned(), Level::Enforce)));
        for (written, hint) in
            [("a", "NAMESPACE=LEVEL"), ("=warn", "NAMESPACE=LEVEL"), ("a=on", "audit, warn or enforce")]
        {
            assert!(namespace_level(written).unwrap_err().contains(hint), "{written}");
        }
    }

    #[test]
    fn pattern_is_made_of_what_images_are_made_of() {
        assert!(pattern("registry.k8s.io/pause:3.?@*").is_ok());
        for written in ["", "a b", "a'b", "[a]", "ä"] {
            assert!(pattern(written).is_err(), "{written}");
        }
    }
}
