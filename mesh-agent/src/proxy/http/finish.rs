//! An instance's answer to the client.

use std::{
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

use http::{HeaderValue, Response, StatusCode, Version, header};

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
        let Answer { endpoint, response, mut lease, in_flight, .. } = answer;
        self.source.forget();
        if response.status().is_server_error() {
            self.port.stats.errors.fetch_add(1, Ordering::Relaxed);
        }
        let (mut head, incoming) = response.into_parts();
        let to = headers::strip_hop_by_hop_response(&mut head.headers);
        head.version = if self.session.http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        let switched = head.status == StatusCode::SWITCHING_PROTOCOLS
            || (self.connect && head.status.is_success());
        if let Lease::Http1 { connection, .. } = &mut lease {
            if switched && connection.tunnel.get() {
                Box::pin(self.open_tunnel(&endpoint, connection, in_flight)).await?;
                if let Some(to) = to {
                    head.headers.insert(header::UPGRADE, to);
                    head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
                }
                return Ok(Response::from_parts(head, ResponseBody::Text(None)));
            }
            connection.tunnel.set(false);
            if self.session.http2 {
                endpoint.live.http1_only.store(true, Ordering::Relaxed);
            }
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
