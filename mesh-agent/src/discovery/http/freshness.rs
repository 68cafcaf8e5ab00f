//! How long a response says that it holds (RFC 9111).

use std::time::Duration;

use http::{HeaderMap, header};

/// `max-age`, without the time that it lay in a cache. `None` where nothing is
/// said, or that nothing is promised.
pub(super) fn of(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all(header::CACHE_CONTROL).iter();
    let mut age = None;
    for directive in values.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(',')) {
        let (name, value) = match directive.split_once('=') {
            Some((name, value)) => (name, value.trim().trim_matches('"')),
            None => (directive, ""),
        };
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => return None,
            "max-age" => age = Some(value.parse::<u64>().ok()?),
            _ => {}
        }
    }
    let lay = headers.get(header::AGE).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    age.map(|age| Duration::from_secs(age.saturating_sub(lay.unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_age_without_age() {
        for (control, age, expected) in [
            ("max-age=60", None, Some(60)),
            ("public, Max-Age=\"60\"", Some("20"), Some(40)),
            ("max-age=60", Some("90"), Some(0)),
            ("max-age=60, no-cache", None, None),
            ("no-store", None, None),
            ("max-age=many", None, None),
            ("public", None, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CACHE_CONTROL, control.parse().unwrap());
            if let Some(age) = age {
                headers.insert(header::AGE, age.parse().unwrap());
            }
            assert_eq!(of(&headers), expected.map(Duration::from_secs), "{control}");
        }
        assert_eq!(of(&HeaderMap::new()), None);
    }
}
