//! An instance's answer to the client.

use std::{
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

use http::{HeaderValue, Response, StatusCode, Version, header, response};

use super::{
    attempts::Answer,
    body::{ResponseBody, Streamed},
    error::Failure,
    exchange::Exchange,
    headers,
    paced::Paced,
    pool::{Http1, Lease},
    session::Tunnel,
};
use crate::{
    proxy::{pick::workload, upstream::InFlight},
    registry::Endpoint,
};

impl Exchange {
    pub async fn finish(&self, answer: Answer) -> Result<Response<ResponseBody>, Failure> {
        self.source.forget();
        if answer.response.status().is_server_error() {
            self.port.stats.errors.fetch_add(1, Ordering::Relaxed);
        }
        if self.is_tunnel(&answer) {
            // Rare, and large.
            return Box::pin(self.tunnel(answer)).await;
        }
        self.stream(answer)
    }

    fn has_switched(&self, status: StatusCode) -> bool {
        status == StatusCode::SWITCHING_PROTOCOLS || (self.connect && status.is_success())
    }

    fn is_tunnel(&self, answer: &Answer) -> bool {
        let switched = self.has_switched(answer.response.status());
        matches!(&answer.lease, Lease::Http1 { connection, .. } if switched && connection.tunnel.get())
    }

    /// The version that the client speaks; what the instance has switched to
    /// is returned.
    fn readdress(&self, head: &mut response::Parts) -> Option<HeaderValue> {
        head.version = if self.session.http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        headers::strip_hop_by_hop(&mut head.headers)
    }

    /// An answer with a body.
    fn stream(&self, answer: Answer) -> Result<Response<ResponseBody>, Failure> {
        let Answer { endpoint, response, lease, in_flight, .. } = answer;
        let (mut head, incoming) = response.into_parts();
        self.readdress(&mut head);
        if let Lease::Http1 { connection, .. } = &lease {
            connection.tunnel.set(false);
        }
        if self.session.http2 && !matches!(lease, Lease::Http2(_)) {
            endpoint.live.http1_only.store(true, Ordering::Relaxed);
        }
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let error = "it switched protocols without being asked".into();
            return Err(Failure::Exchange { instance: endpoint.address, error });
        }
        let deadline = self.deadline.map(|at| Box::pin(tokio::time::sleep_until(at)));
        let client = workload(&self.session.connection);
        let incoming = Paced::new(incoming, &self.port.flow.download, client);
        let body = Streamed::new(incoming, lease, in_flight, Rc::clone(&self.source), deadline);
        Ok(Response::from_parts(head, ResponseBody::Streamed(body)))
    }

    /// An answer that turns both connections into a tunnel.
    async fn tunnel(&self, answer: Answer) -> Result<Response<ResponseBody>, Failure> {
        let Answer { endpoint, response, lease, in_flight, .. } = answer;
        let (mut head, _) = response.into_parts();
        let to = self.readdress(&mut head);
        if let Lease::Http1 { mut connection, .. } = lease {
            self.open_tunnel(&endpoint, &mut connection, in_flight).await?;
        }
        if let Some(to) = to {
            head.headers.insert(header::UPGRADE, to);
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        }
        Ok(Response::from_parts(head, ResponseBody::Text(None)))
    }

    async fn open_tunnel(
        &self,
        endpoint: &Arc<Endpoint>,
        connection: &mut Http1,
        in_flight: InFlight,
    ) -> Result<(), Failure> {
        let Ok(parts) = (&mut connection.parts).await else {
            return Err(Failure::Closed(endpoint.address));
        };
        *self.session.tunnel.borrow_mut() = Some(Tunnel {
            endpoint: Arc::clone(endpoint),
            stream: parts.io.stream,
            early: parts.read_buf,
            in_flight,
            slot: None,
            _connection: connection.slot.take(),
        });
        Ok(())
    }
}
