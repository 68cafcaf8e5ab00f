//! Which instances have left, and when their connections are to end: the time
//! comes in as an argument, and nothing is done here.

use std::{
    collections::HashMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{model::OnRemoval, registry::PortKey};

/// For connections whose SYN was on its way when the instance left.
const LATE: Duration = Duration::from_secs(3);

/// An instance of a service port.
pub(super) type Place = (PortKey, SocketAddr);

/// Who is there of a service port, with whatever the caller wants to know of who
/// has left.
pub(super) type Present<T> = HashMap<SocketAddr, (OnRemoval, T)>;

#[derive(Debug)]
pub(super) struct Departures<T> {
    present: HashMap<PortKey, Present<T>>,
    left: HashMap<Place, (Instant, T)>,
}

impl<T: Clone> Departures<T> {
    pub fn new() -> Self {
        Self { present: HashMap::new(), left: HashMap::new() }
    }

    /// Takes in who is there now of the ports that changed, nobody where one is
    /// gone; who isn't there any more has left.
    pub fn observe(&mut self, now: Instant, changed: HashMap<PortKey, Present<T>>) {
        for (port, present) in changed {
            for (address, (on_removal, known)) in self.present.remove(&port).unwrap_or_default() {
                let patience = match on_removal {
                    _ if present.contains_key(&address) => continue,
                    OnRemoval::Keep => continue,
                    OnRemoval::Close => Duration::ZERO,
                    OnRemoval::Drain(patience) => patience,
                };
                self.left.insert((port.clone(), address), (now + patience, known));
            }
            self.left.retain(|(of, address), _| *of != port || !present.contains_key(address));
            if !present.is_empty() {
                self.present.insert(port, present);
            }
        }
    }

    /// Whether somebody has left whose connections are still to end.
    pub fn is_waiting(&self) -> bool {
        !self.left.is_empty()
    }

    /// Whose connections are to end now, for as long as late ones may come.
    pub fn due(&mut self, now: Instant) -> Vec<(Place, T)> {
        let due: Vec<_> = (self.left.iter())
            .filter(|(_, (due, _))| *due <= now)
            .map(|(place, (_, known))| (place.clone(), known.clone()))
            .collect();
        self.left.retain(|_, (due, _)| now < *due + LATE);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ServiceName, Transport};

    fn present(on_removal: OnRemoval, addresses: &[&str]) -> HashMap<PortKey, Present<()>> {
        let key = (ServiceName::new("web"), 80, Transport::Tcp);
        let there = addresses.iter().map(|address| (address.parse().unwrap(), (on_removal, ())));
        HashMap::from([(key, there.collect())])
    }

    fn due(departures: &mut Departures<()>, now: Instant) -> Vec<String> {
        let mut due: Vec<_> =
            departures.due(now).into_iter().map(|((_, address), ())| address.to_string()).collect();
        due.sort();
        due
    }

    #[test]
    fn who_left_is_due_at_once_or_later_or_never() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        for (on_removal, first) in [
            (OnRemoval::Close, Some(start)),
            (OnRemoval::Drain(30 * second), Some(start + 30 * second)),
            (OnRemoval::Keep, None),
        ] {
            let mut departures = Departures::new();
            departures.observe(start, present(on_removal, &["10.1.0.1:80", "10.1.0.2:80"]));
            assert!(due(&mut departures, start).is_empty());
            departures.observe(start, present(on_removal, &["10.1.0.2:80"]));
            // Another port says nothing of this one.
            let other = (ServiceName::new("other"), 80, Transport::Tcp);
            departures.observe(start, HashMap::from([(other, HashMap::new())]));
            let Some(first) = first else {
                assert!(due(&mut departures, start + 3600 * second).is_empty());
                continue;
            };
            if first > start {
                assert!(due(&mut departures, first - second).is_empty());
            }
            assert_eq!(due(&mut departures, first), ["10.1.0.1:80"]);
            // Late ones are looked for, and then no more.
            assert_eq!(due(&mut departures, first + second), ["10.1.0.1:80"]);
            due(&mut departures, first + LATE);
            assert!(due(&mut departures, first + LATE + second).is_empty());
        }
    }

    #[test]
    fn who_comes_back_in_time_keeps_its_connections() {
        let start = Instant::now();
        let policy = OnRemoval::Drain(Duration::from_secs(30));
        let mut departures = Departures::new();
        departures.observe(start, present(policy, &["10.1.0.1:80"]));
        departures.observe(start, present(policy, &[]));
        departures.observe(start, present(policy, &["10.1.0.1:80"]));
        assert!(due(&mut departures, start + Duration::from_secs(60)).is_empty());
    }
}
