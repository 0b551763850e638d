//! A certificate authority that renews itself: what several replicas keep together, and what is due next. Pure.
//!
//! A new authority is trusted beside the old one before it signs anything, and the old one for as long as it is good,
//! so that no caller ever meets a certificate that it cannot verify.

mod known;

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use self::known::{Known, read_bundle};
use super::certificate::Pair;
use super::issue::{Ca, Validity};

/// An authority lives so many times as long as the certificates that it signs.
const CA_LIFETIMES: u32 = 4;
/// A new authority is trusted for at least this part of its life before it signs.
const SETTLED: u32 = 20;
/// Everything is good from this part of its life before it is made, for clocks that are late.
const BACKDATED: u32 = 100;
/// The most that is backdated.
const BACKDATED_MAX: Duration = Duration::from_mins(10);
/// Certificates and authorities are renewed with this part of their life left.
const RENEWED: u32 = 3;

/// What replicas share. All PEM; any of it may be missing or unreadable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// The authorities that callers are to trust, newest first.
    pub ca_bundle: String,
    /// Key of the newest authority.
    pub ca_key: String,
    /// The serving certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// What is to be kept: for whom, and for how long each time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// DNS names and IP addresses that the server is reached by.
    pub names: Vec<String>,
    /// How long a serving certificate is good.
    pub lifetime: Duration,
}

/// What is done to [`Shared`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There was nothing that could be used; everything is new.
    Begin,
    /// A new authority is to be trusted beside the others. It signs nothing yet.
    Introduce,
    /// The newest authority signed a new serving certificate.
    Issue,
    /// Authorities that have expired are not to be trusted any more.
    Forget,
}

impl Step {
    /// The step as a sentence of the log.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::Begin => "certificate authority and certificate made",
            Self::Introduce => "new certificate authority introduced",
            Self::Issue => "new certificate issued",
            Self::Forget => "expired certificate authority forgotten",
        }
    }
}

impl Authority {
    /// The next step that is due, and what is shared after it. `is_announced`: callers were told to trust the newest
    /// authority. To be called again until nothing is due.
    ///
    /// # Errors
    /// If a name cannot stand in a certificate, or the cryptography fails.
    pub fn due(
        &self,
        shared: &Shared,
        is_announced: bool,
        now: Timestamp,
    ) -> Result<Option<(Step, Shared)>, rcgen::Error> {
        let bundle = read_bundle(&shared.ca_bundle);
        let kept: Vec<&Known> = bundle.iter().filter(|ca| now < ca.until).collect();
        // One that begins later was made while a clock was ahead, or ours is behind: callers may trust it, and it signs nothing.
        let good: Vec<&Known> = kept.iter().copied().filter(|ca| ca.is_good(now)).collect();
        let Some((newest, ca)) = signing(&good, &shared.ca_key) else {
            let ca = self.new_ca(now)?;
            let ca_bundle = with(&ca, &kept);
            return Ok(Some((Step::Begin, self.issued(&ca, &self.names, ca_bundle, now)?)));
        };
        if newest.is_to_be_renewed(now) {
            let ca = self.new_ca(now)?;
            let ca_bundle = with(&ca, &kept);
            return Ok(Some((Step::Introduce, Shared { ca_bundle, ca_key: ca.key(), ..shared.clone() })));
        }
        if let Some(names) = self.names_to_issue(serving(&good, shared).as_ref(), newest, is_announced, now) {
            return Ok(Some((Step::Issue, self.issued(&ca, &names, join(&kept), now)?)));
        }
        let lasting: Vec<&Known> = kept.into_iter().filter(|ca| ca.is_good(now) || !newest.has_settled(now)).collect();
        if lasting.len() < bundle.len() {
            return Ok(Some((Step::Forget, Shared { ca_bundle: join(&lasting), ..shared.clone() })));
        }
        Ok(None)
    }

    /// The names of the certificate that is to be issued now, if one is.
    fn names_to_issue(
        &self,
        leaf: Option<&Known>,
        newest: &Known,
        is_announced: bool,
        now: Timestamp,
    ) -> Option<Vec<String>> {
        let Some(leaf) = leaf.filter(|leaf| leaf.is_good(now)) else { return Some(self.names.clone()) };
        let may_sign = leaf.signer == newest.id || (is_announced && newest.has_settled(now));
        if !self.names.iter().all(|name| leaf.names.contains(name)) {
            // Replicas of two releases may want different names for a while; each adds its own and takes none away.
            let names: BTreeSet<&String> = self.names.iter().chain(&leaf.names).collect();
            return may_sign.then(|| names.into_iter().cloned().collect());
        }
        let is_due = leaf.is_to_be_renewed(now) || leaf.signer != newest.id;
        (is_due && may_sign).then(|| self.names.clone())
    }

    fn new_ca(&self, now: Timestamp) -> Result<Ca, rcgen::Error> {
        // The name tells authorities apart for callers that look them up by it.
        Ca::make(&format!("Pinstream CA {}", now.as_millisecond()), validity(self.lifetime * CA_LIFETIMES, now))
    }

    fn issued(&self, ca: &Ca, names: &[String], ca_bundle: String, now: Timestamp) -> Result<Shared, rcgen::Error> {
        let issued = ca.issue(names, validity(self.lifetime, now))?;
        Ok(Shared { ca_bundle, ca_key: ca.key(), certificate: issued.certificate, key: issued.key })
    }
}

/// The newest authority of a bundle, PEM. Empty if there is none.
#[must_use]
pub fn newest(ca_bundle: &str) -> String {
    read_bundle(ca_bundle).into_iter().next().map(|ca| ca.pem).unwrap_or_default()
}

fn validity(lifetime: Duration, now: Timestamp) -> Validity {
    Validity { from: now - (lifetime / BACKDATED).min(BACKDATED_MAX), until: now + lifetime }
}

/// The newest authority, if its key is there.
fn signing<'k>(good: &[&'k Known], ca_key: &str) -> Option<(&'k Known, Ca)> {
    let newest = *good.first()?;
    let ca = Ca::read(&newest.pem, ca_key).ok()?;
    (ca.public_key() == newest.public_key).then_some((newest, ca))
}

/// The serving certificate, if it can be served and one of the authorities signed it.
fn serving(good: &[&Known], shared: &Shared) -> Option<Known> {
    Pair::from_pem(shared.certificate.as_bytes(), shared.key.as_bytes()).ok()?;
    let leaf = Known::read(&CertificateDer::from_pem_slice(shared.certificate.as_bytes()).ok()?)?;
    good.iter().any(|ca| ca.id == leaf.signer).then_some(leaf)
}

fn join(authorities: &[&Known]) -> String {
    authorities.iter().map(|ca| ca.pem.as_str()).collect()
}

fn with(ca: &Ca, others: &[&Known]) -> String {
    format!("{}\n{}", ca.certificate.trim(), join(others))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const DAY: Duration = Duration::from_hours(24);

    fn authority() -> Authority {
        Authority { names: vec!["pinstream.system.svc".to_owned(), "10.0.0.1".to_owned()], lifetime: DAY * 90 }
    }

    fn start() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn begun() -> Shared {
        authority().due(&Shared::default(), false, start()).unwrap().unwrap().1
    }

    fn due(shared: &Shared, is_announced: bool, now: Timestamp) -> Option<(Step, Shared)> {
        authority().due(shared, is_announced, now).unwrap()
    }

    /// A caller that trusts the bundle takes the certificate.
    fn is_trusted(bundle: &str, shared: &Shared, now: Timestamp) -> bool {
        use rustls::client::WebPkiServerVerifier;
        use rustls::client::danger::ServerCertVerifier as _;
        let mut roots = rustls::RootCertStore::empty();
        for ca in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            roots.add(ca.unwrap()).unwrap();
        }
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.into()).build().unwrap();
        let leaf = CertificateDer::from_pem_slice(shared.certificate.as_bytes()).unwrap();
        let time = rustls::pki_types::UnixTime::since_unix_epoch(now.as_duration().try_into().unwrap());
        let name = "pinstream.system.svc".try_into().unwrap();
        verifier.verify_server_cert(&leaf, &[], &name, &[], time).is_ok()
    }

    #[test]
    fn first_replica_makes_everything_and_the_next_finds_nothing_due() {
        let (step, shared) = due(&Shared::default(), false, start()).unwrap();
        assert_eq!(step, Step::Begin);
        assert!(is_trusted(&shared.ca_bundle, &shared, start()));
        assert!(due(&shared, false, start()).is_none());
        assert!(due(&shared, true, start() + DAY * 59).is_none());
    }

    #[test]
    fn over_ten_years_no_caller_meets_a_certificate_that_it_cannot_verify() {
        let (mut shared, mut now, mut steps) = (begun(), start(), Vec::new());
        let mut announced = shared.ca_bundle.clone();
        while now < start() + DAY * 3650 {
            while let Some((step, next)) = due(&shared, newest(&announced) == newest(&shared.ca_bundle), now) {
                assert!(is_trusted(&announced, &next, now), "{step:?} at {now}");
                steps.push(step);
                shared = next;
            }
            // Callers hear of it an hour later, and meet what was served until then meanwhile.
            now += HOUR;
            assert!(is_trusted(&announced, &shared, now), "{now}");
            announced.clone_from(&shared.ca_bundle);
            assert!(read_bundle(&announced).len() <= 2);
            now += DAY;
        }
        let count = |step| steps.iter().filter(|other| **other == step).count();
        assert_eq!(count(Step::Begin), 0);
        assert!((14..=16).contains(&count(Step::Introduce)), "{steps:?}");
        assert!((60..=80).contains(&count(Step::Issue)), "{steps:?}");
        assert!((13..=16).contains(&count(Step::Forget)), "{steps:?}");
    }

    #[test]
    fn new_authority_signs_only_once_it_is_announced_and_settled() {
        let shared = begun();
        let introduced_at = start() + DAY * 241;
        let (_, shared) = due(&shared, true, introduced_at - DAY * 2).unwrap();
        let (step, introduced) = due(&shared, true, introduced_at).unwrap();
        assert_eq!((step, &introduced.certificate), (Step::Introduce, &shared.certificate));
        assert!(due(&introduced, true, introduced_at + DAY * 10).is_none());
        assert!(due(&introduced, false, introduced_at + DAY * 20).is_none());
        let (step, issued) = due(&introduced, true, introduced_at + DAY * 20).unwrap();
        assert_eq!(step, Step::Issue);
        assert!(is_trusted(&newest(&issued.ca_bundle), &issued, introduced_at + DAY * 20));
        // Out of time, a certificate that some callers refuse is better than one that all refuse.
        assert_eq!(due(&introduced, false, introduced_at + DAY * 100).unwrap().0, Step::Issue);
    }

    /// Whatever a clock does that is ahead for a while, all that is there in the end is good.
    #[test]
    fn what_a_clock_made_that_was_ahead_is_made_anew() {
        for ahead in [HOUR, DAY, DAY * 40, DAY * 365 * 10] {
            let (mut shared, mut steps) = (begun(), 0);
            for now in [start() + ahead, start() + HOUR] {
                while let Some((_, next)) = due(&shared, true, now) {
                    shared = next;
                    steps += 1;
                    assert!(steps < 10, "it comes to an end");
                }
                assert!(is_trusted(&shared.ca_bundle, &shared, now), "{ahead:?} ahead");
                let leaf = Known::read(&CertificateDer::from_pem_slice(shared.certificate.as_bytes()).unwrap());
                assert!(leaf.unwrap().is_good(now) && read_bundle(&shared.ca_bundle)[0].is_good(now));
            }
        }
    }

    #[test]
    fn replicas_that_want_different_names_agree() {
        let other = Authority { names: vec!["pinstream.elsewhere.svc".to_owned()], ..authority() };
        let (step, shared) = other.due(&begun(), true, start()).unwrap().unwrap();
        assert_eq!(step, Step::Issue);
        assert!(other.due(&shared, true, start()).unwrap().is_none());
        assert!(due(&shared, true, start()).is_none());
        let (_, renewed) = due(&shared, true, start() + DAY * 61).unwrap();
        let leaf = CertificateDer::from_pem_slice(renewed.certificate.as_bytes()).unwrap();
        let names = Known::read(&leaf).unwrap().names;
        assert_eq!(names, authority().names.into_iter().collect());
    }

    #[rstest]
    #[case::no_authority(|shared: &mut Shared| shared.ca_bundle.clear(), Step::Begin)]
    #[case::garbled_authority(|shared: &mut Shared| shared.ca_bundle = "hello".to_owned(), Step::Begin)]
    #[case::no_authority_key(|shared: &mut Shared| shared.ca_key.clear(), Step::Begin)]
    #[case::other_authority_key(|shared: &mut Shared| shared.ca_key = begun().ca_key, Step::Begin)]
    #[case::no_certificate(|shared: &mut Shared| shared.certificate.clear(), Step::Issue)]
    #[case::other_key(|shared: &mut Shared| shared.key = begun().key, Step::Issue)]
    #[case::certificate_of_another_authority(|shared: &mut Shared| {
        let other = begun();
        (shared.certificate, shared.key) = (other.certificate, other.key);
    }, Step::Issue)]
    fn what_cannot_be_used_is_made_anew(#[case] spoil: fn(&mut Shared), #[case] expected: Step) {
        let mut shared = begun();
        spoil(&mut shared);
        let (step, shared) = due(&shared, true, start()).unwrap();
        assert_eq!(step, expected);
        assert!(is_trusted(&shared.ca_bundle, &shared, start()));
        assert!(due(&shared, true, start()).is_none());
    }

    #[test]
    fn authority_whose_key_is_lost_is_trusted_until_its_end() {
        let lost = begun();
        let (_, shared) = due(&Shared { ca_key: String::new(), ..lost.clone() }, true, start()).unwrap();
        assert!(is_trusted(&shared.ca_bundle, &lost, start()));
    }
}
