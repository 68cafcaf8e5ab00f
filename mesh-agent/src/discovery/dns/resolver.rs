//! A question to the servers, one after the other, with aliases followed.

use std::{net::SocketAddr, time::Duration};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData, Record, RecordType},
};

use super::{
    super::sockets::Sockets,
    exchange::{ExchangeError, exchange},
    message::{self, follow},
};

/// Answers that lead to another name, one after the other.
const ALIASES: usize = 8;

#[derive(Debug)]
pub(super) struct Resolver {
    pub sockets: Sockets,
    /// Not empty. The second is asked where the first fails.
    pub servers: Vec<SocketAddr>,
    /// For each server.
    pub timeout: Duration,
}

/// What a name has.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    Records(Records),
    /// No such name, or no such records.
    Nothing {
        /// Seconds that this holds, where the answer says so.
        ttl: Option<u32>,
    },
}

#[derive(Debug, PartialEq)]
pub(super) struct Records {
    /// All of the kind that was asked for; not empty.
    pub records: Vec<RData>,
    /// The smallest, aliases included, seconds.
    pub ttl: u32,
    /// What the server thinks will be asked for next.
    pub additionals: Vec<Record>,
}

impl Resolver {
    /// Records of `kind` that `name` or what it is an alias of has. Full
    /// resolvers answer the whole way; others only as far as they know it.
    pub async fn resolve(&self, name: &Name, kind: RecordType) -> Result<Found, ExchangeError> {
        let (mut name, mut longest) = (name.clone(), u32::MAX);
        for _ in 0..=ALIASES {
            let message = self.ask(&name, kind).await?;
            let chain = follow(&message.answers, &name, kind);
            let ttl = chain.ttl.min(longest);
            if !chain.records.is_empty() {
                let additionals = message.additionals;
                return Ok(Found::Records(Records { records: chain.records, ttl, additionals }));
            }
            let missing = message.metadata.response_code == ResponseCode::NXDomain;
            if missing || message::same(&chain.name, &name) {
                let ttl = message::negative_ttl(&message);
                return Ok(Found::Nothing { ttl });
            }
            (name, longest) = (chain.name, ttl);
        }
        Err(ExchangeError::Aliases(ALIASES))
    }

    async fn ask(&self, name: &Name, kind: RecordType) -> Result<Message, ExchangeError> {
        let mut failure = None;
        for &server in &self.servers {
            match exchange(&self.sockets, server, (name, kind), self.timeout).await {
                Ok(message) => return Ok(message),
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        // The first server's: the one that the operator meant to be asked.
        Err(failure.expect("there is at least one server"))
    }
}
