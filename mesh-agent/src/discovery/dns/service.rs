//! SRV records (RFC 2782): what they point to, and the instances of that. Pure.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    num::NonZeroU16,
    sync::Arc,
};

use hickory_proto::rr::{Name, RData, RecordType};

use super::{
    super::is_usable,
    addresses::{self, Merged},
    message::same,
    resolver::Records,
};
use crate::model::{Instance, Labels, Locality, Weight};

/// Each may cost two questions.
const MOST_TARGETS: usize = 1024;

/// One SRV record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pointer {
    priority: u16,
    weight: Weight,
    port: NonZeroU16,
    target: Name,
}

/// The records as they can be used; empty where they say that the service is
/// decidedly not there: the target is the root.
pub(super) fn pointers(found: &Records) -> Result<Vec<Pointer>, String> {
    let records = found.records.iter().filter_map(|data| match data {
        RData::SRV(srv) if !srv.target.is_root() => Some(srv),
        _ => None,
    });
    let pointers: Vec<Pointer> = records
        .filter_map(|srv| {
            Some(Pointer {
                priority: srv.priority,
                // "Very little" traffic, says the RFC; 0 would be none for us.
                // Where all are 0, all get the same.
                weight: Weight(srv.weight.max(1)),
                port: NonZeroU16::new(srv.port)?,
                target: srv.target.to_lowercase(),
            })
        })
        .collect();
    let count = targets(&pointers).len();
    if count > MOST_TARGETS {
        return Err(format!(
            "it points to {count} names, and {MOST_TARGETS} is the most: split the service"
        ));
    }
    Ok(pointers)
}

/// Each target once.
pub(super) fn targets(pointers: &[Pointer]) -> Vec<Name> {
    let mut seen = HashSet::new();
    let targets = pointers.iter().map(|pointer| &pointer.target);
    targets.filter(|&target| seen.insert(target)).cloned().collect()
}

/// A target's addresses where the server sent them along, as it usually does.
pub(super) fn enclosed(found: &Records, target: &Name) -> Option<Merged> {
    let of_target = |record: &&hickory_proto::rr::Record| {
        [RecordType::A, RecordType::AAAA].contains(&record.record_type())
            && same(&record.name, target)
    };
    let records: Vec<_> = found.additionals.iter().filter(of_target).collect();
    let ttl = records.iter().map(|record| record.ttl).min()?;
    let addresses = records.iter().filter_map(|record| addresses::address(&record.data)).collect();
    Some(Merged::Addresses { addresses, ttl, trouble: None })
}

/// Every address of every target is an instance, with the record's weight.
pub(super) fn instances(
    pointers: &[Pointer],
    known: &HashMap<Name, Vec<IpAddr>>,
    locality: &Locality,
) -> Vec<Instance> {
    let labels = Labels::default();
    let locality = locality.clone().shared();
    let instance = |pointer: &Pointer, address| Instance {
        address,
        port: Some(pointer.port),
        serves: None,
        weight: pointer.weight,
        locality: Arc::clone(&locality),
        priority: pointer.priority,
        labels: Arc::clone(&labels),
    };
    (pointers.iter())
        .flat_map(|pointer| {
            let addresses = known.get(&pointer.target).map_or(&[][..], Vec::as_slice);
            let usable = addresses.iter().copied().filter(|&address| is_usable(address));
            usable.map(move |address| (pointer, address))
        })
        .map(|(pointer, address)| instance(pointer, address))
        .collect()
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::{
        Record,
        rdata::{A, SRV},
    };

    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn found(records: &[(u16, u16, u16, &str)]) -> Records {
        let srv = |&(priority, weight, port, target): &(u16, u16, u16, &str)| {
            RData::SRV(SRV::new(priority, weight, port, name(target)))
        };
        Records {
            records: records.iter().map(srv).collect(),
            ttl: 30,
            additionals: vec![
                Record::from_rdata(name("A.test."), 9, RData::A(A::new(10, 0, 0, 1))),
                Record::from_rdata(name("a.test."), 7, RData::A(A::new(10, 0, 0, 2))),
                Record::from_rdata(name("x.test."), 1, RData::A(A::new(10, 0, 0, 9))),
            ],
        }
    }

    #[test]
    fn priority_weight_and_port_are_the_records() {
        let found =
            found(&[(0, 30, 8080, "a.test."), (5, 0, 8081, "b.test."), (5, 0, 0, "b.test.")]);
        let pointers = pointers(&found).unwrap();
        assert_eq!(targets(&pointers), [name("a.test."), name("b.test.")]);
        let Some(Merged::Addresses { addresses, ttl, .. }) = enclosed(&found, &name("a.test."))
        else {
            panic!("the addresses of a stand in the answer");
        };
        assert_eq!((addresses.len(), ttl), (2, 7));
        assert_eq!(enclosed(&found, &name("b.test.")), None);
        let known = HashMap::from([
            (name("a.test."), addresses),
            (name("b.test."), vec!["fd00::1".parse().unwrap(), "::".parse().unwrap()]),
        ]);
        let shown: Vec<_> = instances(&pointers, &known, &Locality::default())
            .iter()
            .map(|i| (i.address.to_string(), i.port.unwrap().get(), i.priority, i.weight.0))
            .collect();
        assert_eq!(
            shown,
            [
                ("10.0.0.1".to_owned(), 8080, 0, 30),
                ("10.0.0.2".to_owned(), 8080, 0, 30),
                ("fd00::1".to_owned(), 8081, 5, 1),
            ]
        );
    }

    #[test]
    fn a_target_of_nothing_is_no_instance() {
        assert_eq!(pointers(&found(&[(0, 0, 0, ".")])), Ok(Vec::new()));
    }

    #[test]
    fn a_crowd_of_targets_is_refused() {
        let names: Vec<String> = (0..1100).map(|n| format!("t{n}.test.")).collect();
        let records: Vec<_> = names.iter().map(|name| (0, 1, 80, name.as_str())).collect();
        assert!(pointers(&found(&records)).unwrap_err().contains("1100"));
    }
}
