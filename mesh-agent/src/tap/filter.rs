//! Which records one who watches wants.

use serde::{Deserialize, Serialize};

use super::{Event, Glob, InstancePattern, Kind, PathPattern, Record, StatusPattern, Via};

/// All that is set has to hold; of a list, one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Filter {
    /// What has only begun, too.
    pub begun: bool,
    pub kind: Option<Kind>,
    pub via: Option<Via>,
    pub service: Option<String>,
    pub instance: Option<InstancePattern>,
    /// Whose it is; asked of whoever knows, not of the record.
    pub client: Option<Glob>,
    /// In upper case.
    pub method: Vec<String>,
    pub path: Option<PathPattern>,
    pub status: Vec<StatusPattern>,
    pub min_duration_us: u64,
}

impl Filter {
    /// Whether the record is wanted, as far as it tells itself: the client is
    /// left open.
    pub fn admits(&self, record: &Record) -> bool {
        (self.begun || record.event() == Event::Ended)
            && self.kind.is_none_or(|kind| kind == record.kind)
            && self.via.is_none_or(|via| via == record.via)
            && self.service.as_ref().is_none_or(|name| {
                record.service.as_ref().is_some_and(|service| service.as_str() == name)
            })
            && self.instance.is_none_or(|pattern| {
                record.instance.is_some_and(|instance| pattern.matches(instance))
            })
            && self.admits_request(record)
            && self.admits_end(record)
    }

    fn admits_request(&self, record: &Record) -> bool {
        if self.method.is_empty() && self.path.is_none() {
            return true;
        }
        record.request.as_ref().is_some_and(|request| {
            let method = request.method.as_str();
            (self.method.is_empty() || self.method.iter().any(|one| one == method))
                && self.path.as_ref().is_none_or(|pattern| pattern.matches(&request.path))
        })
    }

    fn admits_end(&self, record: &Record) -> bool {
        if self.status.is_empty() && self.min_duration_us == 0 {
            return true;
        }
        record.end.as_ref().is_some_and(|end| {
            let as_asked = |pattern: &StatusPattern| pattern.matches(end.status, end.ended);
            (self.status.is_empty() || self.status.iter().any(as_asked))
                && end.duration.as_micros() >= u128::from(self.min_duration_us)
        })
    }
}
