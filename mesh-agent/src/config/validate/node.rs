//! Checks of the sections about the node and the agent itself.

use std::time::Duration;

use super::{Reporter, Step};
use crate::config::{
    raw::{Admin, Capture, Dns, File, Limits},
    text::AbsolutePath,
};

pub fn check(file: &File, reporter: &mut Reporter<'_>) {
    capture(&file.capture, reporter);
    ports(file, reporter);
    admin(&file.admin, reporter);
    dns(&file.dns, reporter);
    limits(&file.limits, reporter);
    let lease = file.kubernetes.lease_duration.0;
    if !(Duration::from_secs(3)..=Duration::from_secs(3600)).contains(&lease) {
        let steps = ["kubernetes".into(), "leaseDuration".into()];
        reporter.report(&steps, "must be from `3s` to `1h`".into());
    }
}

fn capture(capture: &Capture, reporter: &mut Reporter<'_>) {
    let list = |key: &'static str, index: usize| -> [Step<'static>; 3] {
        ["capture".into(), key.into(), index.into()]
    };
    for (index, AbsolutePath(path)) in capture.cgroups.iter().enumerate() {
        let parent =
            capture.cgroups.iter().find(|other| other.0 != *path && path.starts_with(&other.0));
        let message = if capture.cgroups[..index].iter().any(|other| other.0 == *path) {
            format!("`{}` stands here twice; remove one", path.display())
        } else if let Some(AbsolutePath(parent)) = parent {
            format!("is captured already as part of `{}`; remove one of the two", parent.display())
        } else {
            continue;
        };
        reporter.report(&list("cgroups", index), message);
    }
    for (index, AbsolutePath(path)) in capture.exclude.iter().enumerate() {
        if capture.cgroups.iter().any(|captured| captured.0 == *path) {
            let message = "is captured as well: remove it from `cgroups` or from `exclude`";
            reporter.report(&list("exclude", index), message.into());
        } else if !capture.cgroups.iter().any(|captured| path.starts_with(&captured.0)) {
            let message = "is not below any of `capture.cgroups`, so there is nothing to exclude; \
                           correct the path or remove it";
            reporter.report(&list("exclude", index), message.into());
        }
    }
    // The heartbeat comes every 100 ms: less than two of them is noise.
    let bounds = Duration::from_millis(200)..=Duration::from_secs(3600);
    if !bounds.contains(&capture.stale_after.0) {
        let steps = ["capture".into(), "staleAfter".into()];
        reporter.report(&steps, "must be from `200ms` to `1h`".into());
    }
}

fn ports(file: &File, reporter: &mut Reporter<'_>) {
    let proxy = file.capture.proxy_port;
    if file.dns.port == proxy {
        let message = format!(
            "{proxy} is `capture.proxyPort` too: the agent listens on both, choose another"
        );
        reporter.report(&["dns".into(), "port".into()], message);
    }
    if let Some(http) = file.admin.http.0
        && (http.port() == proxy || http.port() == file.dns.port)
    {
        let other = if http.port() == proxy { "capture.proxyPort" } else { "dns.port" };
        let message = format!(
            "port {} is `{other}` too: the agent listens on both, choose another",
            http.port()
        );
        reporter.report(&["admin".into(), "http".into()], message);
    }
}

fn admin(admin: &Admin, reporter: &mut Reporter<'_>) {
    /// unix(7): `sun_path` with its final NUL.
    const LONGEST: usize = 107;
    if admin.socket.0.as_os_str().len() > LONGEST {
        let message = format!("is too long for a unix socket: at most {LONGEST} bytes");
        reporter.report(&["admin".into(), "socket".into()], message);
    }
    if admin.http.0.is_some_and(|http| http.ip().is_multicast()) {
        let message = "is a multicast address: name one of this node's";
        reporter.report(&["admin".into(), "http".into()], message.into());
    }
}

fn dns(dns: &Dns, reporter: &mut Reporter<'_>) {
    if dns.ttl.0.subsec_nanos() != 0 || dns.ttl.0 > Duration::from_secs(86_400) {
        let message = "must be whole seconds, at most `24h`: DNS counts in seconds";
        reporter.report(&["dns".into(), "ttl".into()], message.into());
    }
}

fn limits(limits: &Limits, reporter: &mut Reporter<'_>) {
    // Below 8 KiB, ordinary cookies don't fit, and hyper refuses to work.
    if !(8 << 10..=16 << 20).contains(&limits.header_size.0) {
        let steps = ["limits".into(), "headerSize".into()];
        reporter.report(&steps, "must be from `8KiB` to `16MiB`".into());
    }
    reporter.above_zero(&["limits".into(), "headerTimeout".into()], limits.header_timeout);
}
