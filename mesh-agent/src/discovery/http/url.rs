//! Where a list is.

use http::Uri;

/// An `http` URL, in the parts that a request needs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Url {
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
    /// As the `Host` header has it.
    pub authority: String,
    /// With the query.
    pub path: String,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum UrlError {
    #[error("{0:?} is no URL, such as http://10.0.0.3/sd.json")]
    Malformed(String),
    #[error(
        "{0:?} needs TLS, which this agent doesn't speak: use http:// on a network that can be \
         trusted, or a local proxy that adds TLS"
    )]
    Tls(String),
    #[error("{0:?} has credentials in it: put them into `headers`, as `authorization`")]
    Credentials(String),
}

impl Url {
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let malformed = || UrlError::Malformed(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| malformed())?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(UrlError::Tls(text.to_owned())),
            _ => return Err(malformed()),
        }
        let authority = uri.authority().ok_or_else(malformed)?;
        if authority.as_str().contains('@') {
            return Err(UrlError::Credentials(text.to_owned()));
        }
        let host = authority.host();
        let port = match authority.as_str().strip_prefix(host) {
            Some("") => 80,
            Some(rest) => {
                let port = rest.strip_prefix(':').and_then(|port| port.parse().ok());
                port.ok_or_else(malformed)?
            }
            None => return Err(malformed()),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(malformed());
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            authority: authority.to_string(),
            path: uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let url = Url::parse("http://consul:8500/v1/health/service/web?dc=a").unwrap();
        assert_eq!((url.host.as_str(), url.port), ("consul", 8500));
        assert_eq!(url.authority, "consul:8500");
        assert_eq!(url.path, "/v1/health/service/web?dc=a");
        let url = Url::parse("http://[fd00::3]").unwrap();
        assert_eq!((url.host.as_str(), url.port, url.path.as_str()), ("fd00::3", 80, "/"));
    }

    #[test]
    fn what_can_not_be_asked() {
        for text in ["", "x", "/x", "ftp://x/", "http://", "http:///x", "http://x:99999/"] {
            let error = Url::parse(text).unwrap_err();
            assert!(matches!(error, UrlError::Malformed(_)), "{text}: {error}");
        }
        assert!(matches!(Url::parse("https://x/").unwrap_err(), UrlError::Tls(_)));
        let error = Url::parse("http://me:secret@x/").unwrap_err();
        assert!(matches!(error, UrlError::Credentials(_)));
    }
}
