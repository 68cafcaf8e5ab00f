//! What the sources found, kept for the agent's next run.
//!
//! The kernel goes on with its maps while the agent restarts. Without a memory
//! of its own the new agent would know nothing until each source has answered,
//! and would have to empty what serves; with a source that is down, for good.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::IpAddr,
    num::NonZeroU16,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::task::Report;
use crate::model::{
    DnsRecord, HttpFormat, Instance, Locality, ServiceName, Source, Weight, labels,
};

/// Raised when the file's content changes its meaning: another version's is
/// not read.
const VERSION: u32 = 1;
/// Far above what fits the kernel's maps.
const LONGEST: u64 = 256 << 20;

/// What stands of all sources, as the file has it.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    version: u32,
    sources: Vec<Entry>,
}

/// A source, apart from how it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Key {
    service: String,
    source: String,
}

/// What is known of a source that hasn't been asked yet.
#[derive(Debug)]
pub(super) struct Remembered {
    pub instances: Arc<[Instance]>,
    /// `None` where that is only supposed: the source hasn't said so.
    pub answered: Option<Instant>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    key: Key,
    /// Milliseconds since 1970.
    answered: u64,
    instances: Vec<Kept>,
}

/// [`Instance`] in the file.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    address: IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<NonZeroU16>,
    weight: u16,
    #[serde(default)]
    priority: u16,
    /// Cloud, region, zone and node.
    #[serde(default)]
    locality: [String; 4],
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

impl Key {
    pub fn of(service: &ServiceName, source: &Source) -> Self {
        let source = match source {
            Source::Dns(dns) => {
                let record = match dns.record {
                    DnsRecord::Address => "address",
                    DnsRecord::Srv => "srv",
                };
                let server = dns.server.map_or_else(String::new, |server| format!(" @{server}"));
                format!("dns {record} {}{server}", dns.name)
            }
            Source::Http(http) => {
                let format = match http.format {
                    HttpFormat::Prometheus => "prometheus",
                    HttpFormat::Consul => "consul",
                };
                format!("http {format} {}", http.url)
            }
            Source::Kubernetes(kubernetes) => format!("kubernetes {}", kubernetes.shown),
        };
        Self { service: service.to_string(), source }
    }
}

impl Remembered {
    /// `None` of a source of which nothing is known.
    pub fn of(report: &Report) -> Option<Self> {
        let known = report.answered.is_some() || !report.set.is_empty();
        known.then(|| Self { instances: Arc::clone(&report.set), answered: report.answered })
    }
}

impl Memory {
    /// What an earlier run kept; empty, with a line in the log, where there is
    /// nothing that can be read.
    pub fn load(path: &Path) -> Self {
        match read(path) {
            Ok(Some(memory)) if memory.version == VERSION => memory,
            Ok(Some(memory)) => {
                tracing::info!(
                    path = %path.display(),
                    version = memory.version,
                    "what an earlier agent discovered is of another version: not used"
                );
                Self::default()
            }
            Ok(None) => Self::default(),
            Err(error) => {
                tracing::warn!(
                    path = %path.display(),
                    %error,
                    "can't read what an earlier agent discovered: every source is asked first"
                );
                Self::default()
            }
        }
    }

    /// Replaces the file in one step: a crash leaves the old one or the new one.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        if self.sources.is_empty() && !path.exists() {
            return Ok(());
        }
        let text = serde_json::to_vec(self)?;
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        let mut file =
            File::options().create(true).write(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&text)?;
        drop(file);
        fs::rename(fresh, path)
    }

    /// Of sources that have answered.
    pub(super) fn of(sources: impl Iterator<Item = (Key, Report)>) -> Self {
        let entry = |(key, report): (Key, Report)| {
            let answered = SystemTime::now().checked_sub(report.answered?.elapsed())?;
            let since = answered.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            Some(Entry {
                key,
                answered: u64::try_from(since.as_millis()).ok()?,
                instances: report.set.iter().map(Kept::from).collect(),
            })
        };
        Self { version: VERSION, sources: sources.filter_map(entry).collect() }
    }

    pub(super) fn into_map(self) -> HashMap<Key, Remembered> {
        let now = Instant::now();
        let remembered = |entry: Entry| {
            let answered = SystemTime::UNIX_EPOCH + Duration::from_millis(entry.answered);
            let age = answered.elapsed().unwrap_or_default();
            let answered = Some(now.checked_sub(age).unwrap_or(now));
            let instances = entry.instances.into_iter().map(Instance::from).collect();
            (entry.key, Remembered { instances, answered })
        };
        self.sources.into_iter().map(remembered).collect()
    }
}

fn read(path: &Path) -> io::Result<Option<Memory>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    if file.take(LONGEST + 1).read_to_end(&mut text)? as u64 > LONGEST {
        return Err(io::Error::other("it is too long to be ours"));
    }
    Ok(Some(serde_json::from_slice(&text)?))
}

impl From<&Instance> for Kept {
    fn from(instance: &Instance) -> Self {
        let Locality { cloud, region, zone, node } = (*instance.locality).clone();
        Self {
            address: instance.address,
            port: instance.port,
            weight: instance.weight.0,
            priority: instance.priority,
            locality: [cloud, region, zone, node],
            labels: (*instance.labels).clone(),
        }
    }
}

impl From<Kept> for Instance {
    fn from(kept: Kept) -> Self {
        let [cloud, region, zone, node] = kept.locality;
        Self {
            address: kept.address,
            port: kept.port,
            serves: None,
            weight: Weight(kept.weight),
            locality: Locality { cloud, region, zone, node }.shared(),
            priority: kept.priority,
            labels: labels(kept.labels),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{SourceState, instance},
        *,
    };
    use crate::model::{DnsSource, HttpSource};

    fn key(name: &str) -> Key {
        let source = Source::Dns(DnsSource { name: name.into(), ..DnsSource::default() });
        Key::of(&ServiceName::new("web"), &source)
    }

    fn report(answered: Option<Instant>, set: Vec<Instance>) -> Report {
        let set = set.into();
        Report {
            state: SourceState::Ok,
            set,
            taken: true,
            answered,
            last_error: None,
            next_try: None,
            answers: 1,
            errors: 0,
        }
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.discovered");
        assert_eq!(Memory::load(&path), Memory::default());
        let full = Instance {
            port: None,
            weight: Weight(3),
            priority: 2,
            locality: Locality { zone: "a".into(), ..Locality::default() }.shared(),
            labels: Arc::new([("version".to_owned(), "v2".to_owned())].into()),
            ..instance("[fd00::1]:80")
        };
        let set = vec![full, instance("10.0.0.1:80")];
        let answered = Instant::now() - Duration::from_secs(100);
        let memory = Memory::of(
            [
                (key("a"), report(Some(answered), set.clone())),
                (key("b"), report(None, set.clone())),
            ]
            .into_iter(),
        );
        memory.save(&path).unwrap();
        memory.save(&path).unwrap();
        let mut loaded = Memory::load(&path).into_map();
        let a = loaded.remove(&key("a")).unwrap();
        assert_eq!(*a.instances, *set);
        let age = a.answered.unwrap().elapsed().as_secs();
        assert!((99..=101).contains(&age), "{age}");
        assert!(loaded.is_empty(), "who never answered isn't known: {loaded:?}");
    }

    #[test]
    fn what_is_no_memory_of_ours_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.discovered");
        for text in ["", "{", "[]", r#"{"version":99,"sources":[]}"#] {
            fs::write(&path, text).unwrap();
            assert_eq!(Memory::load(&path), Memory::default(), "{text}");
        }
    }

    #[test]
    fn keys_tell_what_is_asked_and_not_how() {
        let service = ServiceName::new("web");
        let dns = DnsSource { name: "a".into(), ..DnsSource::default() };
        let same = DnsSource { timeout: Duration::from_secs(9), empty_after: 1, ..dns.clone() };
        let srv = DnsSource { record: DnsRecord::Srv, ..dns.clone() };
        let of = |dns: &DnsSource| Key::of(&service, &Source::Dns(dns.clone()));
        assert_eq!(of(&dns), of(&same));
        assert_ne!(of(&dns), of(&srv));
        let http = Source::Http(HttpSource { url: "http://x/".into(), ..HttpSource::default() });
        assert_ne!(of(&dns), Key::of(&service, &http));
    }
}
