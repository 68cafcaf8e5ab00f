//! Instances out of a list that an HTTP server hands out.

mod consul;
mod exchange;
mod freshness;
mod prometheus;
mod url;

use std::{sync::Arc, time::Duration};

use self::{
    consul::Cursor,
    exchange::{Request, Response},
    url::Url,
};
use super::{Lookup, Outcome, sockets::Sockets};
use crate::model::{HttpFormat, HttpSource, Instance};

/// However long a server says that its list holds.
const LONGEST: Duration = Duration::from_secs(300);
/// Between two answers of Consul, however often it has news.
const PAUSE: Duration = Duration::from_secs(1);

/// Asks for one [`HttpSource`].
#[derive(Debug)]
pub(super) struct HttpLookup {
    source: HttpSource,
    sockets: Sockets,
    /// Of the list that was taken last; a list that can't be used leaves none.
    etag: Option<http::HeaderValue>,
    cursor: Cursor,
}

impl HttpLookup {
    pub fn new(source: HttpSource, sockets: Sockets) -> Self {
        Self { source, sockets, etag: None, cursor: Cursor::default() }
    }

    async fn list(&mut self, url: &Url) -> Outcome {
        let request = Request {
            path: url.path.clone(),
            etag: self.etag.clone(),
            ..self.request(self.source.timeout)
        };
        let response = match exchange::get(&self.sockets, url, request).await {
            Ok(response) => response,
            Err(error) => return Outcome::failed(error.to_string()),
        };
        let wait = freshness::of(&response.headers)
            .map_or(self.source.interval, |fresh| fresh.min(LONGEST).max(self.source.interval));
        let Some(body) = response.body else {
            return Outcome { answer: super::Answer::Unchanged, wait };
        };
        let locality = self.source.locality.clone();
        match parsed(move || prometheus::parse(&body, &locality)).await {
            Err(reason) => self.refused(&reason),
            Ok(instances) => {
                self.etag = response.headers.get(http::header::ETAG).cloned();
                Outcome::found(instances, None, wait)
            }
        }
    }

    async fn health(&mut self, url: &Url) -> Outcome {
        let timeout = self.source.timeout + self.cursor.server_waits();
        let request = Request { path: self.cursor.path(&url.path), ..self.request(timeout) };
        let asked = exchange::get(&self.sockets, url, request).await;
        let Response { headers, body: Some(body) } = (match asked {
            Ok(response) => response,
            Err(error) => {
                self.cursor = Cursor::default();
                return Outcome::failed(error.to_string());
            }
        }) else {
            return self.refused("it says that nothing has changed, which nobody asked");
        };
        let locality = self.source.locality.clone();
        match parsed(move || consul::parse(&body, &locality)).await {
            Err(reason) => self.refused(&reason),
            Ok(instances) if instances.is_empty() => {
                // Asked again without waiting for a change, to be sure.
                self.cursor = Cursor::default();
                Outcome::found(instances, None, self.source.interval)
            }
            Ok(instances) => {
                let blocks = self.cursor.follow(&headers);
                let wait =
                    if blocks { PAUSE.min(self.source.interval) } else { self.source.interval };
                Outcome::found(instances, None, wait)
            }
        }
    }

    /// The whole list is asked for again next time.
    fn refused(&mut self, reason: &str) -> Outcome {
        self.etag = None;
        self.cursor = Cursor::default();
        Outcome::failed(reason)
    }

    fn request(&self, timeout: Duration) -> Request {
        Request {
            path: String::new(),
            etag: None,
            headers: self.source.headers.clone(),
            connect: self.source.timeout,
            timeout,
            max_size: self.source.max_size,
        }
    }
}

impl Lookup for HttpLookup {
    async fn ask(&mut self, _: &Arc<[Instance]>) -> Outcome {
        let url = match Url::parse(&self.source.url) {
            Ok(url) => url,
            Err(error) => return Outcome::failed(error.to_string()),
        };
        match self.source.format {
            HttpFormat::Prometheus => self.list(&url).await,
            HttpFormat::Consul => self.health(&url).await,
        }
    }
}

/// Reads a body away from the runtime's threads: it may be megabytes.
async fn parsed(
    parse: impl FnOnce() -> Result<Vec<Instance>, String> + Send + 'static,
) -> Result<Vec<Instance>, String> {
    let parsed = tokio::task::spawn_blocking(parse).await;
    parsed.unwrap_or_else(|error| Err(format!("reading the list failed: {error}")))
}

#[cfg(test)]
mod tests;
