//! Requests to the API server: a page of a list, and the lines of a watch.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Limited};
use kube::client::Body;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rand::Rng as _;
use tokio::time::timeout;

use super::{
    Resource,
    client::ANSWER,
    failure::{Failure, Status, Verb},
    state::SILENCE,
    watch::Selector,
};

/// Objects in one page: a balance of round trips and of memory.
const PAGE: u32 = 250;
/// Of a page, and of one event. etcd holds no object above 1.5 MiB unless told to.
const MAX_PAGE: usize = 256 << 20;
const MAX_EVENT: usize = 16 << 20;

/// Asks for one resource's objects.
pub(super) struct Requests {
    client: kube::Client,
    resource: Resource,
    selector: Selector,
}

/// From where on.
#[derive(Debug, Default)]
pub(super) struct Query {
    /// Of the next page of a list.
    pub next: Option<String>,
    /// What a watch follows.
    pub version: Option<String>,
}

/// The lines of a watch.
pub(super) struct Lines {
    resource: Resource,
    body: Body,
    buffer: BytesMut,
    /// Up to here there is no end of a line.
    searched: usize,
}

impl Requests {
    pub fn new(client: kube::Client, resource: Resource, selector: Selector) -> Self {
        Self { client, resource, selector }
    }

    pub fn resource(&self) -> Resource {
        self.resource
    }

    pub async fn page(&self, query: &Query) -> Result<Bytes, Failure> {
        let failed =
            |error: &dyn std::error::Error| Failure::unreachable(Verb::List, &self.resource, error);
        let answer = async {
            let response = self.send(Verb::List, query).await?;
            let body = Limited::new(response.into_body(), MAX_PAGE).collect().await;
            body.map(http_body_util::Collected::to_bytes).map_err(|error| failed(&*error))
        };
        timeout(ANSWER, answer).await.unwrap_or_else(|late| Err(failed(&late)))
    }

    pub async fn watch(&self, query: &Query) -> Result<Lines, Failure> {
        let response = timeout(ANSWER, self.send(Verb::Watch, query)).await;
        let response = response
            .unwrap_or_else(|late| Err(Failure::unreachable(Verb::Watch, &self.resource, &late)))?;
        let body = response.into_body();
        Ok(Lines { resource: self.resource, body, buffer: BytesMut::new(), searched: 0 })
    }

    async fn send(&self, verb: Verb, query: &Query) -> Result<Response<Body>, Failure> {
        let request = Request::get(self.uri(verb, query))
            .header(header::ACCEPT, self.accept(verb))
            .body(Body::empty())
            .expect("made of parts that are escaped");
        let sent = self.client.send(request).await;
        let response = sent.map_err(|error| Failure::unreachable(verb, &self.resource, &error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(self.refused(verb, response).await)
    }

    async fn refused(&self, verb: Verb, response: Response<Body>) -> Failure {
        let code = response.status().as_u16();
        let retry_after = response.headers().get(header::RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
        let body = Limited::new(response.into_body(), 64 << 10).collect().await;
        let text = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let status = serde_json::from_slice::<Status>(&text).unwrap_or_else(|_| Status {
            message: String::from_utf8_lossy(&text).into_owned(),
            ..Status::default()
        });
        let longest = Duration::from_secs(60);
        let retry_after = retry_after.map(|seconds| Duration::from_secs(seconds).min(longest));
        Failure::refused(verb, &self.resource, &Status { code, ..status }, retry_after)
    }

    fn uri(&self, verb: Verb, query: &Query) -> String {
        let mut uri = self.resource.path();
        let mut more = |name: &str, value: &str| {
            uri.push(if uri.contains('?') { '&' } else { '?' });
            uri.extend([name, "="]);
            uri.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
        };
        match verb {
            Verb::List => more("limit", &PAGE.to_string()),
            Verb::Watch => {
                more("watch", "1");
                more("allowWatchBookmarks", "true");
                // By chance, so that watches don't all end together.
                let seconds = rand::rng().random_range(240..300_u32);
                more("timeoutSeconds", &seconds.to_string());
            }
        }
        let chosen = [
            ("fieldSelector", &self.selector.fields),
            ("labelSelector", &self.selector.labels),
            ("continue", &query.next),
            ("resourceVersion", &query.version),
        ];
        for (name, value) in chosen {
            if let Some(value) = value {
                more(name, value);
            }
        }
        uri
    }

    fn accept(&self, verb: Verb) -> &'static str {
        match (self.resource.metadata_only, verb) {
            (false, _) => "application/json",
            (true, Verb::List) => {
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1, application/json"
            }
            (true, Verb::Watch) => {
                "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1, application/json"
            }
        }
    }
}

impl Lines {
    /// The next line; `None` where the API server ends the watch.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let fresh = &self.buffer[self.searched..];
            if let Some(length) = memchr::memchr(b'\n', fresh) {
                let line = self.buffer.split_to(self.searched + length).freeze();
                self.buffer.advance(1);
                self.searched = 0;
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > MAX_EVENT {
                let text = format!("an event of {} is longer than 16 MiB", self.resource);
                return Err(Failure::other(text));
            }
            let failed = |error: &dyn std::error::Error| {
                Failure::unreachable(Verb::Watch, &self.resource, error)
            };
            match timeout(SILENCE, self.body.frame()).await {
                Err(silent) => return Err(failed(&silent)),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(failed(&error)),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}
