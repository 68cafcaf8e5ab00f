//! What those who watch are told of proxied connections.

use std::{cell::Cell, rc::Rc, time::SystemTime};

use super::{connection::Connection, upstream::ConnectError};
use crate::tap::{Client, End, Ended, Kind, Record, Taps, Via};

/// How a connection ends, and why where that needs a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    pub how: Ended,
    pub why: Option<&'static str>,
}

impl Ending {
    pub const CLOSED: Self = Self { how: Ended::Closed, why: None };
    pub const RESET: Self = Self { how: Ended::Reset, why: None };

    pub fn refused(why: &'static str) -> Self {
        Self { how: Ended::Refused, why: Some(why) }
    }

    pub fn failed(error: &ConnectError) -> Self {
        Self { how: Ended::Failed, why: Some(error.name()) }
    }

    pub fn cut(why: &'static str) -> Self {
        Self { how: Ended::Cut, why: Some(why) }
    }

    /// The first reason is the one: what follows is what it led to.
    pub fn note(self, of: &Cell<Self>) {
        if of.get() == Self::CLOSED {
            of.set(self);
        }
    }
}

/// What a record says of the connection that something came over.
pub(super) fn record(connection: &Connection, kind: Kind) -> Record {
    let original = &connection.original;
    Record {
        at: SystemTime::now(),
        kind,
        via: Via::Proxy,
        client: Client {
            address: Some(connection.peer),
            pid: original.pid,
            cgroup: original.cgroup,
            netns: connection.cookie(),
        },
        service: Some(connection.port().service.clone()),
        destination: original.destination,
        instance: None,
        protocol: connection.protocol.get(),
        request: None,
        end: None,
    }
}

#[cold]
pub(super) fn opened(taps: &Taps, connection: &Connection) {
    taps.publish(record(connection, Kind::Connection));
}

#[cold]
pub(super) fn closed(taps: &Taps, connection: &Rc<Connection>) {
    let info = connection.info();
    let Ending { how, why } = connection.ending.get();
    let requests = (info.protocol != "tcp").then_some(info.requests);
    let end = End {
        ended: how,
        status: None,
        grpc_status: None,
        why: why.map(str::to_owned),
        duration: info.opened.elapsed().unwrap_or_default(),
        first_byte: None,
        round_trip: None,
        sent: info.sent,
        received: info.received,
        attempts: connection.attempts.get(),
        requests,
    };
    let record = record(connection, Kind::Connection);
    taps.publish(Record { instance: info.instance, end: Some(end), ..record });
}
