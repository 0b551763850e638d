//! Certificates as they are read from what replicas share: for how long they are good, for whom, and who signed them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{RENEWED, SETTLED};

const PEM_END: &str = "-----END CERTIFICATE-----";

/// A certificate that was read.
pub(super) struct Known {
    /// Empty for serving certificates.
    pub(super) pem: String,
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
    pub(super) public_key: Vec<u8>,
    /// Identifier of its own key; empty if it has none.
    pub(super) id: Vec<u8>,
    /// Identifier of the key that signed it; empty if it has none.
    pub(super) signer: Vec<u8>,
    pub(super) names: BTreeSet<String>,
}

impl Known {
    fn life(&self) -> Duration {
        self.until.duration_since(self.from).try_into().unwrap_or_default()
    }

    /// Callers accept it. One that was made while the clock was ahead they do not, until then.
    pub(super) fn is_good(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }

    pub(super) fn is_to_be_renewed(&self, now: Timestamp) -> bool {
        now >= self.until - self.life() / RENEWED
    }

    pub(super) fn has_settled(&self, now: Timestamp) -> bool {
        now >= self.from + self.life() / SETTLED
    }

    pub(super) fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let validity = certificate.validity();
        let mut known = Self {
            pem: String::new(),
            from: Timestamp::from_second(validity.not_before.timestamp()).ok()?,
            until: Timestamp::from_second(validity.not_after.timestamp()).ok()?,
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
            id: Vec::new(),
            signer: Vec::new(),
            names: BTreeSet::new(),
        };
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => known.id = id.0.to_vec(),
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    known.signer = id.key_identifier.as_ref().map(|id| id.0.to_vec()).unwrap_or_default();
                }
                ParsedExtension::SubjectAlternativeName(names) => {
                    known.names.extend(names.general_names.iter().filter_map(name));
                }
                _ => {}
            }
        }
        Some(known)
    }
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let address = <[u8; 4]>::try_from(*bytes)
                .map(IpAddr::from)
                .or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from));
            address.ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

/// The authorities of a bundle that can be read, in their order.
pub(super) fn read_bundle(bundle: &str) -> Vec<Known> {
    let read = |pem: &str| {
        let known = Known::read(&CertificateDer::from_pem_slice(pem.as_bytes()).ok()?)?;
        Some(Known { pem: format!("{}\n", pem.trim()), ..known })
    };
    bundle.split_inclusive(PEM_END).filter_map(read).collect()
}
