//! Queries and responses. Pure: bytes in, bytes out.

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query},
    rr::{DNSClass, Name, RData, Record, RecordType},
};

/// What we take over UDP: the recommendation of DNS Flag Day 2020.
pub(super) const UDP_PAYLOAD: u16 = 1232;

/// A question on its way.
#[derive(Debug)]
pub(super) struct Question {
    pub bytes: Vec<u8>,
    id: u16,
    query: Query,
}

/// What the answer section says about a name.
#[derive(Debug, PartialEq)]
pub(super) struct Chain {
    /// Where the CNAMEs lead.
    pub name: Name,
    pub records: Vec<RData>,
    /// The smallest of all records that were used, seconds.
    pub ttl: u32,
}

impl Question {
    /// Under a random id (RFC 5452, 9.2). `None` where the name is too long.
    pub fn new(name: &Name, kind: RecordType, edns: bool) -> Option<Self> {
        let query = Query::query(name.clone(), kind);
        let id = rand::random();
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(query.clone());
        if edns {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_PAYLOAD).set_version(0);
            message.set_edns(edns);
        }
        Some(Self { bytes: message.to_vec().ok()?, id, query })
    }

    /// The response in these bytes where it is one to this very question.
    pub fn response(&self, bytes: &[u8]) -> Option<Message> {
        let message = Message::from_vec(bytes).ok()?;
        let metadata = &message.metadata;
        let ours = metadata.id == self.id
            && metadata.message_type == MessageType::Response
            && metadata.op_code == OpCode::Query;
        // Who can't read the question may leave it out; the id and the
        // connected socket have to do for an error.
        let asked = match &message.queries[..] {
            [query] => {
                query.query_type == self.query.query_type
                    && query.query_class == DNSClass::IN
                    && same(&query.name, &self.query.name)
            }
            [] => message.answers.is_empty() && metadata.response_code != 0.into(),
            _ => false,
        };
        (ours && asked).then_some(message)
    }
}

/// Follows the CNAMEs of an answer section from `name`, in whatever order they
/// stand, to the records of `kind`.
pub(super) fn follow(answers: &[Record], name: &Name, kind: RecordType) -> Chain {
    let mut chain = Chain { name: name.clone(), records: Vec::new(), ttl: u32::MAX };
    // A loop ends when every record has been taken once.
    for _ in 0..=answers.len() {
        let here = || {
            let of_name = |record: &&Record| {
                record.dns_class == DNSClass::IN && same(&record.name, &chain.name)
            };
            answers.iter().filter(of_name)
        };
        let records: Vec<_> = here().filter(|record| record.record_type() == kind).collect();
        if !records.is_empty() {
            let ttl = records.iter().map(|record| record.ttl).min().unwrap_or(0);
            chain.ttl = chain.ttl.min(ttl);
            chain.records = records.into_iter().map(|record| record.data.clone()).collect();
            break;
        }
        let alias = here().find_map(|record| match &record.data {
            RData::CNAME(target) => Some((target.0.clone(), record.ttl)),
            _ => None,
        });
        let Some((target, ttl)) = alias else { break };
        chain.name = target;
        chain.ttl = chain.ttl.min(ttl);
    }
    chain
}

/// How long "there is nothing" holds: only the zone can say (RFC 2308, 5).
pub(super) fn negative_ttl(message: &Message) -> Option<u32> {
    message.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    })
}

pub(super) fn same(one: &Name, other: &Name) -> bool {
    one.to_lowercase().eq_ignore_root(&other.to_lowercase())
}

#[cfg(test)]
mod tests {
    use hickory_proto::{
        op::ResponseCode,
        rr::rdata::{A, CNAME, SOA},
    };

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn a(owner: &str, ttl: u32, last: u8) -> Record {
        Record::from_rdata(name(owner), ttl, RData::A(A::new(10, 0, 0, last)))
    }

    fn cname(owner: &str, ttl: u32, target: &str) -> Record {
        Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(target))))
    }

    #[test]
    fn only_a_response_to_this_question_is_taken() {
        let question = Question::new(&name("web.test."), RecordType::A, true).unwrap();
        let query = Message::from_vec(&question.bytes).unwrap();
        assert_eq!(query.max_payload(), UDP_PAYLOAD);
        assert!(query.metadata.recursion_desired);
        let good = || {
            let mut message = Message::response(question.id, OpCode::Query);
            message.add_query(Query::query(name("WEB.test."), RecordType::A));
            message.add_answer(a("web.test.", 5, 1));
            message
        };
        let taken = |message: &Message| question.response(&message.to_vec().unwrap()).is_some();
        assert!(taken(&good()));
        let mut wrong = good();
        wrong.metadata.id = question.id.wrapping_add(1);
        assert!(!taken(&wrong), "another id");
        let mut wrong = good();
        wrong.queries[0].query_type = RecordType::AAAA;
        assert!(!taken(&wrong), "another type");
        let mut wrong = good();
        wrong.queries[0].name = name("evil.test.");
        assert!(!taken(&wrong), "another name");
        let mut wrong = good();
        wrong.queries.clear();
        assert!(!taken(&wrong), "an answer without the question");
        wrong.answers.clear();
        wrong.metadata.response_code = ResponseCode::FormErr;
        assert!(taken(&wrong), "an error without the question");
        assert!(question.response(&question.bytes).is_none(), "the query itself");
        assert!(question.response(b"nonsense").is_none());
    }

    #[test]
    fn aliases_are_followed_in_any_order_and_the_smallest_ttl_counts() {
        let answers = [
            a("c.test.", 30, 1),
            cname("b.test.", 7, "C.test."),
            a("other.test.", 1, 9),
            cname("a.test.", 60, "b.test."),
            a("c.test.", 40, 2),
        ];
        let chain = follow(&answers, &name("a.test."), RecordType::A);
        assert_eq!((chain.records.len(), chain.ttl), (2, 7));
        // One that leads out of the answer says where to go on.
        let chain = follow(&answers[1..4], &name("a.test."), RecordType::A);
        assert!(chain.records.is_empty() && same(&chain.name, &name("c.test.")));
        // And one that bites its tail ends.
        let round = [cname("a.test.", 1, "b.test."), cname("b.test.", 1, "a.test.")];
        assert!(follow(&round, &name("a.test."), RecordType::A).records.is_empty());
    }

    #[test]
    fn nothing_holds_for_as_long_as_the_zone_says() {
        let mut message = Message::response(1, OpCode::Query);
        assert_eq!(negative_ttl(&message), None);
        let soa = SOA::new(name("test."), name("."), 1, 1, 1, 1, 20);
        message.add_authority(Record::from_rdata(name("test."), 50, RData::SOA(soa)));
        assert_eq!(negative_ttl(&message), Some(20));
    }
}
