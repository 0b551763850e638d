//! Makes certificates: authorities that sign server certificates. Keeps nothing and looks at no clock.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// From when until when a certificate is good, to the second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validity {
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
}

/// A CA certificate with its key.
pub(super) struct Ca {
    /// The certificate, PEM.
    pub(super) certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A server certificate and its key, both PEM.
pub(super) struct Issued {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Ca {
    /// Makes an authority that can sign server certificates, and no further authorities.
    pub(super) fn make(name: &str, validity: Validity) -> Result<Self, rcgen::Error> {
        let mut params = validity.dated(CertificateParams::new(Vec::new())?, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    /// Reads an authority, both parts PEM. Whether they belong together is for the caller to know.
    pub(super) fn read(certificate: &str, key: &str) -> Result<Self, rcgen::Error> {
        let issuer = Issuer::from_ca_cert_pem(certificate, KeyPair::from_pem(key)?)?;
        Ok(Self { certificate: certificate.to_owned(), issuer })
    }

    /// The authority's key, PEM.
    pub(super) fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// The bits of the public key, as they stand in certificates.
    pub(super) fn public_key(&self) -> &[u8] {
        self.issuer.key().public_key_raw()
    }

    /// Signs a certificate for DNS names and IP addresses.
    pub(super) fn issue(&self, names: &[String], validity: Validity) -> Result<Issued, rcgen::Error> {
        let mut params = validity.dated(CertificateParams::new(names)?, "pinstream");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(Issued { certificate, key: key.serialize_pem() })
    }
}

impl Validity {
    fn dated(self, mut params: CertificateParams, name: &str) -> CertificateParams {
        let at = |time: Timestamp| {
            let since_epoch = u64::try_from(time.as_second()).unwrap_or_default();
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(since_epoch)
        };
        params.not_before = at(self.from);
        params.not_after = at(self.until);
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }
}
