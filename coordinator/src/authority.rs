//! The certificate authority of a coordinator that other machines reach.
//!
//! It lies in the state folder and signs one certificate for the coordinator at each start, whose
//! key never touches the disk, and, where they are asked for, certificates of clients. Clients trust
//! this authority and no other: its certificate stands in the access file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use sweep_proto::access::Identity;
use time::{Duration, OffsetDateTime};

use crate::{auth::write_private, clients::hash_of, clock::unix_ms};

/// The authority's certificate, in the state folder.
const CERTIFICATE_FILE: &str = "authority.pem";

/// Its key, beside it, for the owner alone.
const KEY_FILE: &str = "authority-key.pem";

/// Who has the authority of a state folder may make another one; clients then need a new access
/// file, so this happens rarely.
const AUTHORITY_LASTS: Duration = Duration::days(3650);

/// Of the coordinator and of clients. The coordinator's is made anew at each start.
const CERTIFICATE_LASTS: Duration = Duration::days(3 * 365);

/// Clocks of machines differ.
const CLOCKS_DIFFER: Duration = Duration::days(1);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// One of its files cannot be read or written.
    #[error("cannot use {}: {source}; hint: it belongs to the state folder and to whoever starts the coordinator", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Made before.
    #[error(
        "{} is there already; hint: clients trust it; to make another one, remove it and hand out the \
         new access file",
        .0.display()
    )]
    Exists(PathBuf),
    /// What the files hold, or a name in a certificate, is wrong.
    #[error("cannot make a certificate: {0}; hint: names of machines are ASCII, as in DNS")]
    Certificate(#[from] rcgen::Error),
}

/// A certificate with its key.
pub(crate) struct Signed {
    pub(crate) identity: Identity,
    /// Of the certificate.
    pub(crate) hash: String,
}

/// An authority that can sign.
pub(crate) struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// The authority of a state folder; made where there is none.
    pub(crate) fn open(state: &Path) -> Result<Self, AuthorityError> {
        let path = state.join(CERTIFICATE_FILE);
        let certificate = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::make(state),
            Err(source) => return Err(AuthorityError::File { path, source }),
        };
        let path = state.join(KEY_FILE);
        let key =
            fs::read_to_string(&path).map_err(|source| AuthorityError::File { path, source })?;
        let issuer = Issuer::new(authority_params(), KeyPair::from_pem(&key)?);
        Ok(Self { certificate, issuer })
    }

    /// Makes the authority of a state folder.
    ///
    /// # Errors
    /// [`AuthorityError::Exists`] when there is one.
    pub(crate) fn make(state: &Path) -> Result<Self, AuthorityError> {
        let path = state.join(CERTIFICATE_FILE);
        if path.exists() {
            return Err(AuthorityError::Exists(path));
        }
        let key = KeyPair::generate()?;
        let certificate = lasting(authority_params(), AUTHORITY_LASTS).self_signed(&key)?.pem();
        fs::create_dir_all(state)
            .map_err(|source| AuthorityError::File { path: state.to_owned(), source })?;
        // The key first: a certificate without its key would be taken for an authority.
        for (name, text) in [(KEY_FILE, &key.serialize_pem()), (CERTIFICATE_FILE, &certificate)] {
            let path = state.join(name);
            write_private(&path, text).map_err(|source| AuthorityError::File { path, source })?;
        }
        Ok(Self { certificate, issuer: Issuer::new(authority_params(), key) })
    }

    /// Its certificate in PEM, for those who trust it.
    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate of the coordinator for all names and addresses that it is reached by.
    pub(crate) fn server(&self, hosts: Vec<String>) -> Result<Identity, AuthorityError> {
        let params = CertificateParams::new(hosts)?;
        Ok(self.sign(params, "sweep coordinator", ExtendedKeyUsagePurpose::ServerAuth)?.identity)
    }

    /// A certificate of a client.
    pub(crate) fn client(&self, name: &str) -> Result<Signed, AuthorityError> {
        self.sign(CertificateParams::default(), name, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        name: &str,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Signed, AuthorityError> {
        params.distinguished_name = common_name(name);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate()?;
        let certificate = lasting(params, CERTIFICATE_LASTS).signed_by(&key, &self.issuer)?;
        let hash = hash_of(certificate.der());
        let identity = Identity { certificate: certificate.pem(), key: key.serialize_pem() };
        Ok(Signed { identity, hash })
    }
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("sweep authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn lasting(mut params: CertificateParams, lasts: Duration) -> CertificateParams {
    let now = OffsetDateTime::UNIX_EPOCH + Duration::milliseconds(unix_ms());
    params.not_before = now - CLOCKS_DIFFER;
    params.not_after = now + lasts;
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_made_once_and_opened_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("deep");
        let made = Authority::open(&state).unwrap();
        let opened = Authority::open(&state).unwrap();
        assert_eq!(made.certificate(), opened.certificate());
        let error = Authority::make(&state).err().unwrap().to_string();
        assert!(error.contains(CERTIFICATE_FILE) && error.contains("hint:"), "{error}");
        #[cfg(unix)]
        for name in [CERTIFICATE_FILE, KEY_FILE] {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(state.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_lost_or_damaged_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        Authority::make(folder.path()).unwrap();
        fs::write(folder.path().join(KEY_FILE), "no key").unwrap();
        assert!(matches!(Authority::open(folder.path()), Err(AuthorityError::Certificate(_))));
        fs::remove_file(folder.path().join(KEY_FILE)).unwrap();
        let error = Authority::open(folder.path()).err().unwrap().to_string();
        assert!(error.contains(KEY_FILE) && error.contains("hint:"), "{error}");
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::make(folder.path()).unwrap();
        assert!(authority.server(vec!["host.example".into(), "10.0.0.1".into()]).is_ok());
        let error = authority.server(vec!["h\u{f6}st".into()]).err().unwrap().to_string();
        assert!(error.contains("hint:"), "{error}");
    }
}
