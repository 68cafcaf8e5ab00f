//! The system's resolvers.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

const FILE: &str = "/etc/resolv.conf";
/// As many as the C library asks.
const MOST: usize = 3;
const PORT: u16 = 53;

pub(super) async fn servers() -> Result<Vec<SocketAddr>, String> {
    let text = tokio::fs::read_to_string(FILE)
        .await
        .map_err(|error| format!("can't read {FILE} ({error}): name a `server`"))?;
    let servers = parse(&text);
    match servers.is_empty() {
        true => Err(format!("{FILE} names no resolver: name a `server`")),
        false => Ok(servers),
    }
}

fn parse(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next()? == "nameserver").then(|| words.next())?
        })
        .filter_map(address)
        .take(MOST)
        .collect()
}

/// With a zone where it is link-local, such as `fe80::1%3`.
fn address(word: &str) -> Option<SocketAddr> {
    match word.split_once('%') {
        None => Some(SocketAddr::new(word.parse::<IpAddr>().ok()?, PORT)),
        Some((ip, zone)) => {
            let index = match zone.parse() {
                Ok(index) => index,
                Err(_) => nix::net::if_::if_nametoindex(zone).ok()?,
            };
            Some(SocketAddrV6::new(ip.parse().ok()?, PORT, 0, index).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_three_servers_are_taken() {
        let text = "# nameserver 1.1.1.1\nsearch example.test\nnameserver 10.0.0.1\n\
                    ; a comment\n  nameserver\tfd00::1  # mine\nnameserver nonsense\n\
                    nameserver fe80::1%7\noptions ndots:5\nnameserver 10.0.0.4\n";
        let shown: Vec<_> = parse(text).iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.1:53", "[fd00::1]:53", "[fe80::1%7]:53"]);
        assert!(parse("").is_empty());
    }
}
