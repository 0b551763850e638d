//! Targets of what is one line: references and patterns.

use std::net::Ipv4Addr;

use super::{DIGEST, first_line};
use crate::glob::glob;
use crate::policy::{Excepted, Exception, Exceptions, is_pinned};
use crate::reference::{Reference, ReferenceError};
use crate::registry::{Address, Registries};

/// A string is a reference if a second reader says so. It prints as it was written, stays one when pinned, and where its
/// image is asked for can be written as a reference to the same place.
pub(crate) fn reference(input: &[u8]) {
    let Ok(written) = std::str::from_utf8(input) else { return };
    let parsed = Reference::parse(written);
    assert_eq!(parsed.is_ok(), is_reference(written), "{written:?}: {parsed:?}");
    let Ok(parsed) = parsed else { return };
    assert_eq!(parsed.to_string(), written);
    if let Some(pinned) = parsed.at_digest(DIGEST) {
        let again = Reference::parse(&pinned).expect("a pinned reference is one");
        assert_eq!((again.digest, again.tag, again.name), (Some(DIGEST), None, parsed.name));
        assert!(is_pinned(&pinned));
    }
    assert!(!is_pinned(written) || parsed.digest.is_some(), "{written}");
    let address = Address::of(written);
    assert_eq!(address == Err(ReferenceError::Name), parsed.name.is_empty());
    if let Ok(address) = address {
        let separator = if address.digest().is_some() { '@' } else { ':' };
        let full = format!("{}/{}{separator}{}", address.registry, address.repository, address.version);
        match Address::of(&full) {
            Ok(again) => assert_eq!(again, address),
            // What is filled in makes it longer, and registries take no capitals in what is no host.
            Err(ReferenceError::NameLength) => assert!(full.len() > 255),
            Err(error) => assert!(parsed.namespace.is_some_and(has_capitals), "{full}: {error}"),
        }
    }
}

fn has_capitals(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// The grammar read literally: there is a way to cut the string into a name, a tag and a digest.
fn is_reference(written: &str) -> bool {
    let digests = written.match_indices('@').map(|(at, _)| (&written[..at], Some(&written[at + 1..])));
    digests.chain([(written, None)]).any(|(rest, digest)| {
        let tags = rest.match_indices(':').map(|(at, _)| (&rest[..at], Some(&rest[at + 1..])));
        let mut cuts = tags.chain([(rest, None)]);
        digest.is_none_or(is_digest) && cuts.any(|(name, tag)| tag.is_none_or(is_tag) && is_name(name))
    })
}

fn is_name(name: &str) -> bool {
    let all = |path: &str| path.split('/').all(is_component);
    name.len() <= 255 && (all(name) || name.split_once('/').is_some_and(|(host, path)| is_host(host) && all(path)))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_component(component: &str) -> bool {
    let is_letter = |c: char| matches!(c, 'a'..='z' | '0'..='9');
    let rest = component.trim_start_matches(is_letter);
    if rest.len() == component.len() {
        return false;
    }
    let behind = rest.trim_start_matches('-');
    let separators = [rest.strip_prefix('.'), rest.strip_prefix("__"), rest.strip_prefix('_')];
    let dashes = Some(behind).filter(|behind| behind.len() < rest.len());
    rest.is_empty() || separators.into_iter().chain([dashes]).flatten().any(is_component)
}

/// Labels of letters, digits and dashes inside, with dots between them, and perhaps a port.
fn is_host(host: &str) -> bool {
    let (labels, port) = host.split_once(':').map_or((host, None), |(labels, port)| (labels, Some(port)));
    let is_label = |label: &str| {
        let dashless = label.trim_matches('-');
        dashless == label && !label.is_empty() && label.chars().all(|c| c == '-' || c.is_ascii_alphanumeric())
    };
    labels.split('.').all(is_label) && port.is_none_or(|port| !port.is_empty() && is_digits(port))
}

fn is_digits(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_digit())
}

fn is_tag(tag: &str) -> bool {
    let is_letter = |c: char| c == '_' || c.is_ascii_alphanumeric();
    (1..=128).contains(&tag.len())
        && tag.starts_with(is_letter)
        && tag.chars().all(|c| is_letter(c) || ".-".contains(c))
}

/// `[A-Za-z][A-Za-z0-9]*([-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9A-Fa-f]{32,}`, and as long as the algorithm makes it.
fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    let is_part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic()) && part.chars().all(|c| c.is_ascii_alphanumeric())
    };
    let length = match algorithm {
        "sha256" => 64..=64,
        "sha384" => 96..=96,
        "sha512" => 128..=128,
        _ => 32..=usize::MAX,
    };
    algorithm.split(|c| "-_+.".contains(c)).all(is_part)
        && length.contains(&hex.len())
        && hex.chars().all(|c| c.is_ascii_hexdigit())
}

/// A pattern and a text, a line each: a second reader says the same of them, and so do all who use patterns.
pub(crate) fn patterns(input: &[u8]) {
    let Some((pattern, text)) = first_line(input).filter(|(pattern, text)| pattern.len() < 100 && text.len() < 300)
    else {
        return;
    };
    let fits = is_fit(pattern, text);
    assert_eq!(glob(pattern, text), fits, "{pattern:?} {text:?}");
    let exceptions = Exceptions { images: vec![pattern.to_owned()], without_annotations: false };
    assert_eq!(exceptions.find(text, "", &Excepted::by([])), fits.then_some(Exception::Pattern));
    let named = exceptions.find(text, "web", &Excepted::by([pattern]));
    let is_named = pattern.split(',').any(|name| matches!(name.trim(), "*" | "web"));
    assert_eq!(named, if fits { Some(Exception::Pattern) } else { is_named.then_some(Exception::Annotation) });
    registries(pattern, text);
}

/// Whoever is blocked is not allowed, and the same registry written in another way is the same.
fn registries(pattern: &str, registry: &str) {
    let rules = |allow: &[&str], block: &[&str]| {
        let owned = |list: &[&str]| list.iter().map(|pattern| (*pattern).to_owned()).collect();
        Registries { allow: owned(allow), block: owned(block) }
    };
    let only = rules(&[pattern], &[]);
    let allowed = only.permit(registry);
    assert_ne!(rules(&[], &[pattern]).permit(registry), allowed);
    assert!(!rules(&[pattern], &[pattern]).permit(registry));
    for spelling in spellings(registry) {
        assert_eq!(only.permit(&spelling), allowed, "{registry} {spelling}");
    }
}

/// Other spellings of a registry.
fn spellings(registry: &str) -> Vec<String> {
    let mut spellings = vec![registry.to_ascii_uppercase()];
    let (host, port) = registry.split_once(':').map_or((registry, None), |(host, port)| (host, Some(port)));
    match port {
        None => spellings.extend(["", "."].map(|dot| format!("{registry}{dot}:0443"))),
        Some(port) if port.parse::<u16>().is_ok_and(|number| number.to_string() == port) => {
            spellings.push(format!("{host}.:00{port}"));
        }
        Some(_) => {}
    }
    if let Ok(address) = registry.parse::<Ipv4Addr>() {
        let ([a, b, c, d], number) = (address.octets(), address.to_bits());
        spellings.extend([
            format!("{number}"),
            format!("{number:#x}"),
            format!("0{a:o}.{b}.{}", u16::from_be_bytes([c, d])),
        ]);
    }
    spellings
}

/// Whether a pattern fits, worked out by table: of each beginning of the text, whether the pattern so far fits it.
fn is_fit(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let mut fits = vec![false; text.len() + 1];
    fits[0] = true;
    for sign in pattern.chars() {
        let before = fits.clone();
        let mut any = false;
        for (length, fit) in fits.iter_mut().enumerate() {
            any |= before[length];
            *fit = match sign {
                '*' => any,
                _ => length > 0 && before[length - 1] && (sign == '?' || sign == text[length - 1]),
            };
        }
    }
    fits[text.len()]
}
