//! Trusted certificates: the system's, or those in `SSL_CERT_FILE` and `SSL_CERT_DIR`; Mozilla's if
//! the system has none.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use rustls_platform_verifier::Verifier;
use x509_cert::{Certificate, der::Decode};

use crate::error::{Error, Kind, Result};

/// The hint for a certificate that is not trusted.
pub const HINT: &str =
    "name a PEM file with the certificate of that authority: SSL_CERT_FILE=/path/ca.pem";

/// The TLS configuration that verifies the server's certificate.
///
/// # Errors
/// `SSL_CERT_FILE` or `SSL_CERT_DIR` is set but contains no certificate.
pub fn client_config() -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let broken =
        |error: rustls::Error| Error::new(Kind::Unreachable, "TLS cannot be set up").because(error);
    let trusted = Trusted { inner: verifier(&provider)? };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(broken)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(trusted))
        .with_no_client_auth();
    Ok(config)
}

/// Mozilla's certificates if the system has none; otherwise empty.
///
/// # Errors
/// `SSL_CERT_FILE` or `SSL_CERT_DIR` is set but contains no certificate.
pub fn fallback() -> Result<Vec<CertificateDer<'static>>> {
    let unread = |(name, value): (&str, String)| {
        let what = format!("{name} is `{value}`, but no certificate can be read there");
        Error::input(what).with_hint(format!(
            "set it to a PEM file with the certificates to trust, or unset {name}"
        ))
    };
    if let Some(named) = named("SSL_CERT_FILE") {
        let read = CertificateDer::pem_file_iter(&named.1);
        if !read.is_ok_and(|mut all| all.any(|one| one.is_ok())) {
            return Err(unread(named));
        }
    }
    let folders = named("SSL_CERT_DIR");
    if let Some((name, value)) = &folders {
        let mut all = std::env::split_paths(value);
        if let Some(missing) = all.find(|folder| !folder.is_dir()) {
            return Err(unread((name, missing.display().to_string())));
        }
    }
    let provider = Arc::new(ring::default_provider());
    if Verifier::new(Arc::clone(&provider)).is_ok() {
        return Ok(Vec::new());
    }
    if let Some(named) = folders {
        return Err(unread(named));
    }
    Ok(webpki_root_certs::TLS_SERVER_ROOT_CERTS.to_vec())
}

fn verifier(provider: &Arc<CryptoProvider>) -> Result<Verifier> {
    let broken = |error: rustls::Error| {
        Error::new(Kind::Unreachable, "the trusted certificates cannot be read").because(error)
    };
    Verifier::new_with_extra_roots(fallback()?, Arc::clone(provider)).map_err(broken)
}

/// A variable with the path of certificates, and its value, if it is set.
#[expect(
    clippy::disallowed_methods,
    reason = "the library that reads the files uses the same variables"
)]
fn named(name: &'static str) -> Option<(&'static str, String)> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty())?;
    Some((name, value))
}

/// Verifies certificates like the system, and names the issuer of a certificate that is not
/// trusted.
#[derive(Debug)]
struct Trusted {
    inner: Verifier,
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let verified = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        verified.map_err(|error| match error {
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                let why = UnknownAuthority(issuer(end_entity, intermediates));
                OtherError(Arc::new(why)).into()
            }
            other => other,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Why a certificate was rejected, from the text of an error and its causes; `None` if the error
/// has another reason.
pub fn refusal(text: &str) -> Option<String> {
    let unknown = text.rsplit_once(UNKNOWN).map(|(_, rest)| format!("{UNKNOWN}{rest}"));
    let other = || text.split_once("invalid peer certificate: ").map(|(_, why)| why.to_owned());
    unknown.or_else(other)
}

/// Start of the message about an unknown authority.
const UNKNOWN: &str = "its authority ";

/// The authority that issued a certificate and is not trusted.
#[derive(Debug)]
struct UnknownAuthority(Option<String>);

impl std::fmt::Display for UnknownAuthority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(issuer) => write!(formatter, "{UNKNOWN}`{issuer}` is not trusted here"),
            None => write!(formatter, "{UNKNOWN}is not trusted here"),
        }
    }
}

impl std::error::Error for UnknownAuthority {}

/// Name of the authority at the root of a chain.
fn issuer(end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Option<String> {
    let read = |der: &CertificateDer<'_>| Certificate::from_der(der).ok();
    let mut top = read(end_entity)?.tbs_certificate.issuer;
    let above: Vec<Certificate> = intermediates.iter().filter_map(read).collect();
    // Each step uses each certificate at most once, so that a circular chain ends.
    for _ in &above {
        let next = above.iter().map(|one| &one.tbs_certificate).find(|one| one.subject == top);
        match next {
            Some(next) => top = next.issuer.clone(),
            None => break,
        }
    }
    Some(top.to_string())
}
