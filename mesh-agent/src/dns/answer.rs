//! Which queries are ours, and their answers. Pure: bytes in, bytes out.

use std::{net::IpAddr, time::Duration};

use hickory_proto::{
    op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType, rdata::SOA},
};

use crate::registry::Snapshot;

/// What a client takes over UDP unless it says otherwise (RFC 1035, 4.2.1).
const PLAIN_UDP: u16 = 512;
/// What we say that we take over UDP: the recommendation of DNS Flag Day 2020.
const OUR_UDP: u16 = 1232;
/// Bytes of a header (RFC 1035, 4.1.1).
const HEADER: usize = 12;

/// How the answer travels, and so how long it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    Udp,
    Tcp,
}

/// The answer to `query` where it asks for a service's hostname. `None` for
/// everything else, what can't be parsed included: somebody else's business.
pub fn answer(
    query: &[u8],
    snapshot: &Snapshot,
    ttl: Duration,
    channel: Channel,
) -> Option<Vec<u8>> {
    let request = parse(query)?;
    let [question] = &request.queries[..] else { return None };
    // Whoever signs (TSIG, SIG(0)) or speaks a later EDNS wants to talk to the
    // resolver itself.
    let is_plain = request.additionals.is_empty()
        && request.edns.as_ref().is_none_or(|edns| edns.version() == 0);
    if !is_plain
        || request.metadata.op_code != OpCode::Query
        || question.query_class != DNSClass::IN
    {
        return None;
    }
    let service = snapshot.by_hostname(&hostname(&question.name)?)?;
    let ttl = u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX);
    let mut response = respond(&request);
    response.metadata.authoritative = true;
    response.answers = records(question, &service.spec.addresses, ttl);
    if response.answers.is_empty() {
        response.authorities = vec![start_of_authority(question, snapshot.generation, ttl)];
    }
    fit(response, limit(&request, channel))
}

/// SERVFAIL for `query`, so that the client moves on at once; `None` where it
/// isn't a query that could be answered.
pub fn failure(query: &[u8]) -> Option<Vec<u8>> {
    let mut response = respond(&parse(query)?);
    response.metadata.response_code = ResponseCode::ServFail;
    response.to_vec().ok()
}

/// A request with one question and no records. The counts are looked at before
/// the parser sees them, because it makes room for as many as they say.
fn parse(query: &[u8]) -> Option<Message> {
    const COUNTS: [u8; 6] = [0, 1, 0, 0, 0, 0];
    if query.len() < HEADER || query[4..10] != COUNTS {
        return None;
    }
    let request = Message::from_vec(query).ok()?;
    (request.metadata.message_type == MessageType::Query).then_some(request)
}

/// The name as the snapshot knows it. `None` where a label holds what no
/// hostname does: a dot inside a label must not look like two labels.
fn hostname(name: &Name) -> Option<String> {
    let mut text = String::with_capacity(name.len());
    for label in name {
        if !text.is_empty() {
            text.push('.');
        }
        for &byte in label {
            if byte == b'.' || !byte.is_ascii_graphic() {
                return None;
            }
            text.push(char::from(byte.to_ascii_lowercase()));
        }
    }
    Some(text)
}

/// An empty response: the question in its original case (some clients check
/// that, draft-vixie-dnsext-dns0x20), and OPT where the request had it.
fn respond(request: &Message) -> Message {
    let id = request.metadata.id;
    let mut response = Message::response(id, request.metadata.op_code);
    response.metadata = Metadata::response_from_request(&request.metadata);
    response.metadata.recursion_available = true;
    response.queries.clone_from(&request.queries);
    response.edns = request.edns.as_ref().map(|asked| {
        let mut edns = Edns::new();
        edns.set_max_payload(OUR_UDP).set_version(0).set_dnssec_ok(asked.flags().dnssec_ok);
        edns
    });
    response
}

/// The records of the family that was asked for. ANY gets both; other types
/// exist for no hostname of ours.
fn records(question: &Query, addresses: &[IpAddr], ttl: u32) -> Vec<Record> {
    let wants = |kind| [kind, RecordType::ANY].contains(&question.query_type);
    (addresses.iter())
        .filter_map(|address| match address {
            IpAddr::V4(v4) if wants(RecordType::A) => Some(RData::A((*v4).into())),
            IpAddr::V6(v6) if wants(RecordType::AAAA) => Some(RData::AAAA((*v6).into())),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        })
        .map(|data| Record::from_rdata(question.name.clone(), ttl, data))
        .collect()
}

/// Goes with an empty answer: without it nobody may cache that there is
/// nothing (RFC 2308, 5), and dual-stack clients would ask every time. Each
/// hostname is the top of a zone of its own.
fn start_of_authority(question: &Query, generation: u64, ttl: u32) -> Record {
    // Serial numbers wrap (RFC 1982).
    let serial = (generation & u64::from(u32::MAX)) as u32;
    let seconds = i32::try_from(ttl).unwrap_or(i32::MAX);
    let zone = question.name.clone();
    let data = SOA::new(zone.clone(), Name::root(), serial, seconds, seconds, seconds, ttl);
    Record::from_rdata(zone, ttl, RData::SOA(data))
}

fn limit(request: &Message, channel: Channel) -> usize {
    let asked = request.edns.as_ref().map_or(PLAIN_UDP, Edns::max_payload);
    match channel {
        Channel::Udp => usize::from(asked.max(PLAIN_UDP)),
        Channel::Tcp => usize::from(u16::MAX),
    }
}

/// The bytes; where they are too many, none of the records, and TC, by which
/// the client knows to ask again over TCP (RFC 2181, 9).
fn fit(mut response: Message, limit: usize) -> Option<Vec<u8>> {
    if let Ok(bytes) = response.to_vec()
        && bytes.len() <= limit
    {
        return Some(bytes);
    }
    response.metadata.truncation = true;
    response.answers.clear();
    response.authorities.clear();
    response.to_vec().ok()
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU16, sync::Arc};

    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        model::{OnAgentFailure, PathChoice, Port, Protocol, ServiceName, ServiceSpec},
        registry::Registry,
    };

    const TTL: Duration = Duration::from_secs(5);

    fn snapshot() -> Arc<Snapshot> {
        let service = |name: &str, addresses: Vec<IpAddr>, hostnames: &[&str]| ServiceSpec {
            name: ServiceName::new(name),
            addresses,
            hostnames: hostnames.iter().copied().map(Into::into).collect(),
            ports: vec![Port { port: NonZeroU16::MIN, protocol: Protocol::Tcp }],
            path: PathChoice::Auto,
            on_agent_failure: OnAgentFailure::Open,
            static_instances: Vec::new(),
            sources: Vec::new(),
            routes: Vec::new(),
            policy: Arc::default(),
        };
        let both = vec!["10.96.0.11".parse().unwrap(), "fd00::11".parse().unwrap()];
        let many = (0..40u8).map(|n| IpAddr::from([10, 97, 0, n])).collect();
        let mut registry = Registry::new();
        registry.configure(vec![
            service("reviews", both, &["reviews", "reviews.default.svc.cluster.local"]),
            service("four", vec!["10.96.0.4".parse().unwrap()], &["four"]),
            service("many", many, &["many"]),
        ]);
        registry.reader().load()
    }

    fn query(name: &str, kind: RecordType) -> Message {
        let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message
    }

    fn ask(message: &Message, channel: Channel) -> Option<Message> {
        let bytes = answer(&message.to_vec().unwrap(), &snapshot(), TTL, channel)?;
        Some(Message::from_vec(&bytes).unwrap())
    }

    fn data(message: &Message) -> Vec<String> {
        message.answers.iter().map(|record| record.data.to_string()).collect()
    }

    #[test]
    fn hostnames_are_answered_and_nothing_else() {
        use RecordType as T;
        let cases: &[(&str, RecordType, Option<&[&str]>)] = &[
            ("reviews.", T::A, Some(&["10.96.0.11"])),
            ("reviews", T::A, Some(&["10.96.0.11"])),
            ("ReViEwS.", T::AAAA, Some(&["fd00::11"])),
            ("reviews.default.svc.cluster.local.", T::A, Some(&["10.96.0.11"])),
            ("reviews.", T::ANY, Some(&["10.96.0.11", "fd00::11"])),
            ("reviews.", T::HTTPS, Some(&[])),
            ("reviews.", T::SVCB, Some(&[])),
            ("reviews.", T::MX, Some(&[])),
            ("reviews.", T::Unknown(4711), Some(&[])),
            ("four.", T::AAAA, Some(&[])),
            ("reviews.example.com.", T::A, None),
            ("reviews.default.", T::A, None),
            ("x.reviews.", T::A, None),
            ("reviews\\.default.svc.cluster.local.", T::A, None),
            ("eviews.", T::A, None),
            (".", T::NS, None),
        ];
        for (name, kind, expect) in cases {
            let found = ask(&query(name, *kind), Channel::Udp);
            assert_eq!(found.is_some(), expect.is_some(), "{name} {kind}");
            let (Some(found), Some(expect)) = (found, expect) else { continue };
            assert_eq!(data(&found), *expect, "{name} {kind}");
            assert_eq!(found.authorities.len(), usize::from(expect.is_empty()), "{name} {kind}");
            assert!(found.answers.iter().chain(&found.authorities).all(|record| record.ttl == 5));
            let header = &found.metadata;
            assert_eq!((header.id, header.response_code), (0x1234, ResponseCode::NoError));
            assert_eq!(header.message_type, MessageType::Response);
            assert!(header.authoritative && header.recursion_available);
            assert!(header.recursion_desired && !header.truncation);
            assert!(found.edns.is_none());
        }
    }

    #[test]
    fn the_question_comes_back_in_its_own_case() {
        let asked = query("ReViEwS.", RecordType::A).to_vec().unwrap();
        let answered = answer(&asked, &snapshot(), TTL, Channel::Udp).unwrap();
        assert_eq!(answered[HEADER..asked.len()], asked[HEADER..]);
    }

    #[test]
    fn other_kinds_of_message_are_not_ours() {
        type Change = fn(&mut Message);
        let changes: &[(&str, Change)] = &[
            ("response", |m| m.metadata.message_type = MessageType::Response),
            ("notify", |m| m.metadata.op_code = OpCode::Notify),
            ("update", |m| m.metadata.op_code = OpCode::Update),
            ("status", |m| m.metadata.op_code = OpCode::Status),
            ("no question", |m| m.queries.clear()),
            ("two questions", |m| {
                m.add_query(m.queries[0].clone());
            }),
            ("chaos", |m| {
                m.queries[0].set_query_class(DNSClass::CH);
            }),
            ("an answer in it", |m| {
                let name = m.queries[0].name.clone();
                m.add_answer(Record::from_rdata(
                    name,
                    1,
                    RData::A(std::net::Ipv4Addr::LOCALHOST.into()),
                ));
            }),
            ("a record beside OPT", |m| {
                let name = m.queries[0].name.clone();
                m.add_additional(Record::from_rdata(
                    name,
                    1,
                    RData::A(std::net::Ipv4Addr::LOCALHOST.into()),
                ));
            }),
            ("a later EDNS", |m| {
                let mut edns = Edns::new();
                edns.set_version(1);
                m.set_edns(edns);
            }),
        ];
        for (what, change) in changes {
            let mut message = query("reviews.", RecordType::A);
            change(&mut message);
            assert!(ask(&message, Channel::Udp).is_none(), "{what}");
        }
    }

    #[test]
    fn opt_is_echoed() {
        let mut message = query("reviews.", RecordType::A);
        let mut edns = Edns::new();
        edns.set_max_payload(4096).set_dnssec_ok(true);
        message.set_edns(edns);
        let edns = ask(&message, Channel::Udp).unwrap().edns.unwrap();
        assert_eq!((edns.version(), edns.max_payload()), (0, OUR_UDP));
        assert!(edns.flags().dnssec_ok);
    }

    #[test]
    fn long_answers_are_truncated_to_what_the_client_takes() {
        // 40 records of 16 bytes, and the question.
        let cases = [
            (None, Channel::Udp, false),
            (Some(100), Channel::Udp, false),
            (Some(512), Channel::Udp, false),
            (Some(1232), Channel::Udp, true),
            (None, Channel::Tcp, true),
            (Some(512), Channel::Tcp, true),
        ];
        for (payload, channel, whole) in cases {
            let mut message = query("many.", RecordType::A);
            message.edns = payload.map(|payload| {
                let mut edns = Edns::new();
                edns.set_max_payload(payload);
                edns
            });
            let found = ask(&message, channel).unwrap();
            assert_eq!(found.metadata.truncation, !whole, "{payload:?} {channel:?}");
            assert_eq!(found.answers.len(), if whole { 40 } else { 0 }, "{payload:?} {channel:?}");
            assert!(found.authorities.is_empty());
        }
    }

    #[test]
    fn a_failure_answers_the_query() {
        let message = query("example.com.", RecordType::A);
        let failed = Message::from_vec(&failure(&message.to_vec().unwrap()).unwrap()).unwrap();
        assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
        assert_eq!((failed.metadata.id, &failed.queries), (0x1234, &message.queries));
        assert_eq!(failure(b"garbage that is long enough"), None);
    }

    proptest! {
        #[test]
        fn garbage_is_not_ours(bytes in vec(any::<u8>(), 0..600)) {
            prop_assert_eq!(answer(&bytes, &snapshot(), TTL, Channel::Udp), None);
            let _ = failure(&bytes);
        }

        /// Bytes behind a good header get deeper into the parser.
        #[test]
        fn no_damage_panics(at in 0usize..40, byte in any::<u8>(), cut in 0usize..40) {
            let mut bytes = query("reviews.", RecordType::A).to_vec().unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(bytes.len() - cut % bytes.len());
            if let Some(answer) = answer(&bytes, &snapshot(), TTL, Channel::Udp) {
                prop_assert_eq!(&answer[..2], &bytes[..2]);
                prop_assert!(Message::from_vec(&answer).is_ok());
            }
            let _ = failure(&bytes);
        }

        #[test]
        fn any_name_that_no_service_has_is_not_ours(name in "[a-z]{1,20}(\\.[a-z0-9-]{1,20}){1,4}") {
            prop_assume!(!name.starts_with("reviews.default"));
            let Ok(name) = Name::from_ascii(&name) else { return Ok(()) };
            let mut message = query(".", RecordType::A);
            message.queries[0].set_name(name);
            prop_assert!(ask(&message, Channel::Udp).is_none());
        }
    }
}
