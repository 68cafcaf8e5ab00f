//! What an instance is asked for in place of what the client asked for.

use http::{HeaderValue, Uri, request, uri::PathAndQuery};

use super::change;
use crate::model::{self, PathMatch, PathRewrite};

/// Of a path, with what it takes: see [`NewPath::of`].
#[derive(Clone, Debug)]
pub enum NewPath {
    Full(String),
    Prefix { asked: String, new: String },
}

#[derive(Clone, Debug)]
pub struct Rewrite {
    host: Option<HeaderValue>,
    path: Option<NewPath>,
}

impl Rewrite {
    /// `matches` are its route's.
    pub fn new(to: &model::Rewrite, matches: &[model::RouteMatch]) -> Self {
        let host = to.host.as_deref();
        Self {
            host: host.map(|host| HeaderValue::from_str(host).expect("validated by `config`")),
            path: to.path.as_ref().map(|path| NewPath::new(path, matches)),
        }
    }

    pub fn apply(&self, head: &mut request::Parts) {
        if let Some(host) = &self.host {
            change::set_host(head, host);
        }
        let Some(path) = &self.path else { return };
        let mut text = path.of(head.uri.path());
        if let Some(query) = head.uri.query() {
            text.extend(["?", query]);
        }
        let mut parts = head.uri.clone().into_parts();
        parts.path_and_query = PathAndQuery::try_from(text).ok();
        // Both parts of it were valid, so that the whole is.
        if let Ok(uri) = Uri::from_parts(parts) {
            head.uri = uri;
        }
    }
}

impl NewPath {
    pub fn new(to: &PathRewrite, matches: &[model::RouteMatch]) -> Self {
        let asked = matches.first().and_then(|one| one.path.as_ref());
        match (to, asked) {
            (PathRewrite::Full(path), _) => Self::Full(path.clone()),
            (PathRewrite::Prefix(new), asked) => {
                // Without a match, the prefix of all paths.
                let asked = match asked {
                    Some(PathMatch::Prefix(asked)) => asked.trim_end_matches('/'),
                    _ => "",
                };
                Self::Prefix { asked: asked.to_owned(), new: new.clone() }
            }
        }
    }

    /// Gateway API, `HTTPPathModifier`: slashes between the two parts are one.
    pub fn of(&self, path: &str) -> String {
        match self {
            Self::Full(path) => path.clone(),
            Self::Prefix { asked, new } => match path.strip_prefix(asked.as_str()) {
                None => path.to_owned(),
                Some("") => new.clone(),
                Some(rest) => [new.trim_end_matches('/'), rest].concat(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(host: Option<&str>, path: PathRewrite, asked: &str) -> Rewrite {
        let path_match = Some(PathMatch::Prefix(asked.to_owned()));
        let matches = [model::RouteMatch { path: path_match, ..Default::default() }];
        let to = model::Rewrite { host: host.map(str::to_owned), path: Some(path) };
        Rewrite::new(&to, &matches)
    }

    fn applied(rewrite: &Rewrite, uri: &str) -> (String, Option<String>) {
        let request = http::Request::get(uri).header("host", "before").body(()).unwrap();
        let (mut head, ()) = request.into_parts();
        rewrite.apply(&mut head);
        let host = head.headers.get("host").map(|host| host.to_str().unwrap().to_owned());
        (head.uri.to_string(), host)
    }

    /// The table of Gateway API's `replacePrefixMatch`.
    #[test]
    fn the_prefix_is_replaced() {
        for (path, asked, new, expected) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "/", "/bar"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/foo?a=/foo", "/foo", "/b", "/b?a=/foo"),
            ("/any", "/", "/xyz", "/xyz/any"),
        ] {
            let rewrite = rewrite(None, PathRewrite::Prefix(new.to_owned()), asked);
            assert_eq!(applied(&rewrite, path).0, expected, "{path} {asked} {new}");
        }
    }

    #[test]
    fn host_and_path() {
        let rewrite = rewrite(Some("new.example"), PathRewrite::Full("/new".to_owned()), "/");
        let host = Some("new.example".to_owned());
        assert_eq!(applied(&rewrite, "/old?q=1"), ("/new?q=1".to_owned(), host.clone()));
        let full = applied(&rewrite, "http://before/old");
        assert_eq!(full, ("http://new.example/new".to_owned(), host));
    }
}
