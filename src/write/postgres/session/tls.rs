//! TLS with the meaning of libpq's `sslmode`, on rustls.

use std::{fs, path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    server::ParsedCertificate,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::certificates;
use crate::error::{Error, Result};
use crate::write::postgres::options::fields::{PostgresOptions, SslMode};

/// The TLS connector for these options.
pub(crate) fn connector(options: &PostgresOptions) -> Result<MakeRustlsConnect> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(broken)?;
    let verified = matches!(options.sslmode, SslMode::VerifyCa | SslMode::VerifyFull);
    let roots = match (options.sslmode, &options.sslrootcert) {
        (SslMode::Require, Some(file)) => Some(file),
        (_, file) => file.as_ref().filter(|_| verified),
    };
    let trust = match roots {
        Some(file) => Trust::in_file(file, options.sslmode == SslMode::VerifyFull, provider)?,
        None if verified => {
            return Ok(MakeRustlsConnect::new(certificates::client_config()?));
        }
        None => Trust { check: Check::Nothing, provider },
    };
    let config = builder.dangerous().with_custom_certificate_verifier(Arc::new(trust));
    Ok(MakeRustlsConnect::new(config.with_no_client_auth()))
}

impl PostgresOptions {
    /// Checks the file of certificates that `sslrootcert` names, if it is set.
    ///
    /// # Errors
    /// The file cannot be read, or contains no certificate.
    pub fn check_certificates(&self) -> Result<()> {
        let Some(file) = &self.sslrootcert else { return Ok(()) };
        if certificates(file)?.is_empty() {
            let what = format!("`sslrootcert` contains no certificate: `{}`", file.display());
            return Err(
                Error::input(what).with_hint("give a PEM file with the certificates to trust")
            );
        }
        Ok(())
    }
}

fn broken(cause: rustls::Error) -> Error {
    Error::target("TLS cannot be set up").because(cause)
}

/// Which certificates are accepted.
#[derive(Debug)]
struct Trust {
    check: Check,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Check {
    /// Any certificate: `require` and `prefer` encrypt without checking the server's identity.
    Nothing,
    /// A certificate with a chain to a trusted one.
    Chain {
        chain: Arc<WebPkiServerVerifier>,
        /// The certificates of the file. As in libpq, the server's own certificate may be one of them.
        own: Vec<CertificateDer<'static>>,
        /// Whether the certificate must name the host.
        name: bool,
    },
}

impl Trust {
    fn in_file(file: &Path, name: bool, provider: Arc<CryptoProvider>) -> Result<Self> {
        let own = certificates(file)?;
        let unusable = |why: String| {
            Error::input(format!("`sslrootcert` cannot be used: `{}`", file.display()))
                .because(why)
                .with_hint("give a PEM file with the certificates to trust")
        };
        let mut roots = RootCertStore::empty();
        for certificate in &own {
            roots.add(certificate.clone()).map_err(|error| unusable(error.to_string()))?;
        }
        let chain =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|error| unusable(error.to_string()))?;
        Ok(Self { check: Check::Chain { chain, own, name }, provider })
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let unreadable = |why: String| {
        Error::input(format!("`sslrootcert` cannot be read: `{}`", file.display())).because(why)
    };
    let pem = fs::read(file).map_err(|error| unreadable(error.to_string()))?;
    CertificateDer::pem_slice_iter(&pem)
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| unreadable(error.to_string()))
}

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Check::Chain { chain, own, name } = &self.check else {
            return Ok(ServerCertVerified::assertion());
        };
        if own.iter().any(|certificate| certificate == end_entity) {
            if *name {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        let checked =
            chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        // The chain is verified before the name, so a certificate that fails only by name has a good chain.
        match checked {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !name => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
