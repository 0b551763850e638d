//! Certificates of a control plane: CAs, and what they sign.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

/// A CA with its certificate in a file.
pub struct Authority {
    pub file: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in files.
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    pub fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let file = folder.join(format!("{name}.crt"));
        fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { file, issuer: Issuer::new(params, key) }
    }

    /// Signs a certificate of a server for names, or, without names, of a client. The client is known to Kubernetes
    /// as user `name` of group `group`.
    pub fn sign(&self, name: &str, group: Option<&str>, names: &[&str]) -> Pair {
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        let usage =
            if names.is_empty() { ExtendedKeyUsagePurpose::ClientAuth } else { ExtendedKeyUsagePurpose::ServerAuth };
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let folder = self.file.parent().unwrap();
        let file = name.replace(':', "-");
        let pair = Pair { certificate: folder.join(format!("{file}.crt")), key: folder.join(format!("{file}.key")) };
        fs::write(&pair.certificate, params.signed_by(&key, &self.issuer).unwrap().pem()).unwrap();
        fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }
}

/// A key that signs tokens, and what they are verified with.
pub fn token_keys(folder: &Path) -> (PathBuf, PathBuf) {
    let key = KeyPair::generate().unwrap();
    let (private, public) = (folder.join("tokens.key"), folder.join("tokens.pub"));
    fs::write(&private, key.serialize_pem()).unwrap();
    fs::write(&public, key.public_key_pem()).unwrap();
    (private, public)
}
