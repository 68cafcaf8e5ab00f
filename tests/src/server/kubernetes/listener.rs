//! HTTPS: certificates, and connections that end when the server goes away.

use std::{
    convert::Infallible,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{answer::answer, api::Api};

/// Files of an authority made for one world, and of its server's certificate.
#[derive(Clone, Debug)]
pub struct Certificates {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Of the same key.
    pub public_key: PathBuf,
    der: (Vec<u8>, Vec<u8>),
    authority_der: Vec<u8>,
}

impl Certificates {
    /// For a server on the loopback address.
    pub fn make(folder: &Path) -> Result<Self> {
        let authority_key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&authority_key)?;
        let issuer = Issuer::new(params, authority_key);
        let key = KeyPair::generate()?;
        let names = ["127.0.0.1", "localhost", "kubernetes.default.svc"];
        let params = CertificateParams::new(names.map(str::to_owned))?;
        let certificate = params.signed_by(&key, &issuer)?;
        let write = |name: &str, pem: String| -> Result<PathBuf> {
            let path = folder.join(name);
            fs::write(&path, pem).with_context(|| format!("write {}", path.display()))?;
            Ok(path)
        };
        Ok(Self {
            authority: write("ca.crt", authority.pem())?,
            certificate: write("server.crt", certificate.pem())?,
            key: write("server.key", key.serialize_pem())?,
            public_key: write("server.pub", key.public_key_pem())?,
            der: (certificate.der().to_vec(), key.serialize_der()),
            authority_der: authority.der().to_vec(),
        })
    }

    fn acceptor(&self) -> Result<TlsAcceptor> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.der.1.clone()));
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![self.der.0.clone().into()], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// For a client that trusts this authority only.
    pub fn client(&self) -> Result<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.authority_der.clone().into())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth())
    }
}

/// Serves until this future is dropped, and with it every connection.
pub async fn serve(listener: TcpListener, api: Arc<Api>, certificates: Certificates) -> Result<()> {
    let acceptor = certificates.acceptor()?;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.context("accept a client of the API server")?;
                connections.spawn(connection(stream, acceptor.clone(), Arc::clone(&api)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, api: Arc<Api>) {
    // Small answers go at once: the tests measure how long changes take.
    let _ = stream.set_nodelay(true);
    // Clients may go whenever they like: no error of a connection is ours.
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| {
        let api = Arc::clone(&api);
        async move { Ok::<_, Infallible>(answer(&api, request).await) }
    });
    let stream = TokioIo::new(stream);
    let _ = if http2 {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(stream, service)
            .await
    } else {
        hyper::server::conn::http1::Builder::new().serve_connection(stream, service).await
    };
}

/// On a port that stays this server's: it comes back there.
pub async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))
}

/// A free port of the loopback address, for a server that is told its port.
pub fn free_port() -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    Ok(listener.local_addr()?)
}
