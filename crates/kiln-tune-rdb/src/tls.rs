//! Encrypted connections to database servers.

use std::path::PathBuf;

use crate::connection::{Failure, SqlError, SqlResult};

/// A database URL and what it says about encryption.
#[derive(Debug, PartialEq)]
pub(crate) struct TlsUrl {
    /// The URL without the parameters below, which drivers do not know or understand otherwise.
    pub(crate) url: String,
    /// Whether the connection is encrypted and the server must prove who it is.
    pub(crate) encrypted: bool,
    /// Certificates (PEM) of those who vouch for the server, instead of those that the system trusts.
    pub(crate) roots: Option<PathBuf>,
}

impl TlsUrl {
    /// Takes `sslmode` and `sslrootcert` (or `ssl_ca`, which encrypts by itself) out of a URL.
    pub(crate) fn parse(url: &str) -> SqlResult<Self> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut parsed = Self {
            url: base.to_owned(),
            encrypted: false,
            roots: None,
        };
        let mut separator = '?';
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", "disable" | "allow" | "prefer")) => parsed.encrypted = false,
                Some(("sslmode", "require" | "verify-ca" | "verify-full")) => {
                    parsed.encrypted = true;
                }
                Some(("sslmode", other)) => {
                    return Err(SqlError::new(
                        Failure::Other,
                        format!(
                            "sslmode must be disable, allow, prefer, require, verify-ca or verify-full, but got {other:?}"
                        ),
                    ));
                }
                Some(("sslrootcert", path)) => parsed.roots = Some(path.into()),
                Some(("ssl_ca", path)) => {
                    parsed.encrypted = true;
                    parsed.roots = Some(path.into());
                }
                _ => {
                    parsed.url.push(separator);
                    parsed.url.push_str(pair);
                    separator = '&';
                }
            }
        }
        if parsed.encrypted && cfg!(not(feature = "tls")) {
            return Err(SqlError::new(
                Failure::Other,
                "an encrypted connection needs the feature `tls` of kiln-tune-rdb, as in `cargo install --path crates/kiln-study \
                 --features postgres,tls`",
            ));
        }
        Ok(parsed)
    }
}

/// What a client needs to encrypt: the certificates of the system, or those of a file.
#[cfg(all(feature = "tls", feature = "postgres"))]
pub(crate) fn client_config(
    roots: Option<&std::path::Path>,
) -> Result<rustls::ClientConfig, Box<dyn std::error::Error + Send + Sync>> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};

    let mut store = rustls::RootCertStore::empty();
    match roots {
        Some(path) => {
            let unreadable =
                |error| format!("cannot read certificates from {}: {error}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
                store.add(certificate.map_err(unreadable)?)?;
            }
            if store.is_empty() {
                return Err(format!("there is no certificate in {}", path.display()).into());
            }
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(store)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encryption_is_read_from_the_url_and_taken_out_of_it() {
        let plain = TlsUrl::parse("postgresql://u@h/d?connect_timeout=3&sslmode=prefer").unwrap();
        assert_eq!(plain.url, "postgresql://u@h/d?connect_timeout=3");
        assert!(!plain.encrypted && plain.roots.is_none());
        assert_eq!(TlsUrl::parse("mysql://u@h/d").unwrap().url, "mysql://u@h/d");
        let error = TlsUrl::parse("postgresql://h/d?sslmode=maybe").unwrap_err();
        assert!(format!("{error:?}").contains("verify-full"));
        let asked = TlsUrl::parse("postgresql://h/d?sslmode=require&a=1&sslrootcert=/ca.pem&b=2");
        if cfg!(feature = "tls") {
            let asked = asked.unwrap();
            assert_eq!(asked.url, "postgresql://h/d?a=1&b=2");
            assert!(asked.encrypted);
            assert_eq!(asked.roots, Some("/ca.pem".into()));
        } else {
            assert!(format!("{:?}", asked.unwrap_err()).contains("feature `tls`"));
        }
    }
}
