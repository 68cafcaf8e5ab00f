//! What A and AAAA answers say together. Pure.

use std::net::IpAddr;

use hickory_proto::rr::RData;

use super::{exchange::ExchangeError, resolver::Found};

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Merged {
    Addresses {
        addresses: Vec<IpAddr>,
        /// Seconds.
        ttl: u32,
        /// One family has failed, and keeps what was known of it.
        trouble: Option<String>,
    },
    Empty {
        ttl: Option<u32>,
    },
    Failed(String),
}

/// A family that fails keeps its `known` addresses while the other answers with
/// some: many resolvers can only ever answer for one of them. While the other
/// has nothing, nothing is known.
pub(super) fn merge(
    v4: Result<Found, ExchangeError>,
    v6: Result<Found, ExchangeError>,
    known: &[IpAddr],
) -> Merged {
    let kept = |is_v4: bool| known.iter().copied().filter(move |ip| ip.is_ipv4() == is_v4);
    match (v4, v6) {
        (Err(v4), Err(_)) => Merged::Failed(v4.to_string()),
        (Ok(found), Err(error)) => with_failed(found, kept(false), &format!("AAAA: {error}")),
        (Err(error), Ok(found)) => with_failed(found, kept(true), &format!("A: {error}")),
        (Ok(v4), Ok(v6)) => {
            let (v4, v6) = (addresses(v4), addresses(v6));
            match (v4, v6) {
                (Ok((mut addresses, ttl)), Ok((more, other))) => {
                    addresses.extend(more);
                    Merged::Addresses { addresses, ttl: ttl.min(other), trouble: None }
                }
                (Ok((addresses, ttl)), Err(_)) | (Err(_), Ok((addresses, ttl))) => {
                    Merged::Addresses { addresses, ttl, trouble: None }
                }
                (Err(one), Err(other)) => Merged::Empty {
                    ttl: one.zip(other).map(|(one, other)| one.min(other)).or(one).or(other),
                },
            }
        }
    }
}

fn with_failed(found: Found, kept: impl Iterator<Item = IpAddr>, error: &str) -> Merged {
    match addresses(found) {
        Ok((mut addresses, ttl)) => {
            addresses.extend(kept);
            Merged::Addresses { addresses, ttl, trouble: Some(error.to_owned()) }
        }
        Err(_) => Merged::Failed(error.to_owned()),
    }
}

/// Addresses and their TTL, or how long it holds that there are none.
fn addresses(found: Found) -> Result<(Vec<IpAddr>, u32), Option<u32>> {
    match found {
        Found::Nothing { ttl } => Err(ttl),
        Found::Records(found) => {
            Ok((found.records.iter().filter_map(address).collect(), found.ttl))
        }
    }
}

pub(super) fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(v4) => Some(v4.0.into()),
        RData::AAAA(v6) => Some(v6.0.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{super::resolver::Records, *};

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[expect(clippy::unnecessary_wraps, reason = "it stands where a lookup's outcome does")]
    fn some(texts: &[&str], ttl: u32) -> Result<Found, ExchangeError> {
        let data = |ip: IpAddr| match ip {
            IpAddr::V4(v4) => RData::A(v4.into()),
            IpAddr::V6(v6) => RData::AAAA(v6.into()),
        };
        let records = ips(texts).into_iter().map(data).collect();
        Ok(Found::Records(Records { records, ttl, additionals: Vec::new() }))
    }

    #[expect(clippy::unnecessary_wraps, reason = "it stands where a lookup's outcome does")]
    fn nothing(ttl: u32) -> Result<Found, ExchangeError> {
        Ok(Found::Nothing { ttl: Some(ttl) })
    }

    fn failed() -> Result<Found, ExchangeError> {
        Err(ExchangeError::Name)
    }

    #[test]
    fn families_are_merged_and_a_failed_one_keeps_what_it_had() {
        let known = ips(&["10.0.0.9", "fd00::9"]);
        let merged = |v4, v6| match merge(v4, v6, &known) {
            Merged::Addresses { addresses, ttl, trouble } => {
                let shown: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                format!("{} {ttl}{}", shown.join(" "), if trouble.is_some() { " !" } else { "" })
            }
            Merged::Empty { ttl } => format!("empty {ttl:?}"),
            Merged::Failed(_) => "failed".to_owned(),
        };
        assert_eq!(merged(some(&["10.0.0.1"], 9), some(&["fd00::1"], 5)), "10.0.0.1 fd00::1 5");
        assert_eq!(merged(some(&["10.0.0.1"], 9), nothing(1)), "10.0.0.1 9");
        assert_eq!(merged(nothing(1), some(&["fd00::1"], 5)), "fd00::1 5");
        assert_eq!(merged(some(&["10.0.0.1"], 9), failed()), "10.0.0.1 fd00::9 9 !");
        assert_eq!(merged(failed(), some(&["fd00::1"], 5)), "fd00::1 10.0.0.9 5 !");
        assert_eq!(merged(nothing(7), nothing(3)), "empty Some(3)");
        assert_eq!(merged(nothing(7), Ok(Found::Nothing { ttl: None })), "empty Some(7)");
        assert_eq!(merged(nothing(7), failed()), "failed");
        assert_eq!(merged(failed(), failed()), "failed");
    }
}
