//! `filters` of a route, or of one of its backends.

use std::{num::NonZeroU16, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::section::{section, values};
use crate::{
    config::text::{HeaderName, Headers, HostPattern, Labels, Name, RequestPath},
    model,
};

section! {
    /// What is changed on the way.
    pub struct Filters {
        /// Of the request, before an instance gets it.
        request_headers: HeaderChanges,
        /// Of the response, before the client gets it.
        response_headers: HeaderChanges,
        /// Answers by itself, with another place.
        redirect: Redirect,
        /// Of the request, before an instance gets it.
        rewrite: Rewrite,
        /// Copies of the request, each to a service whose answer is thrown away.
        #[schemars(length(max = 8))]
        mirror: Vec<Mirror>,
    }

    /// Changes of headers, in the order of these keys.
    pub struct HeaderChanges {
        /// Replaced, or added where there is none.
        set: Headers,
        /// Added to what there is.
        add: Headers,
        /// Taken out.
        #[schemars(length(max = 64))]
        remove: Vec<HeaderName>,
    }

    /// The place that the client is sent to; what isn't set stays as it was asked for.
    pub struct Redirect {
        /// Of the new place.
        scheme: Scheme,
        /// Of the new place.
        host: HostPattern,
        /// Of the new place; the scheme's own where that is given.
        port: NonZeroU16,
        /// The whole path; the query stays.
        path: RequestPath,
        /// In place of the prefix that the route's only match has; the rest of the path stays.
        prefix: RequestPath,
        /// 301, 302, 303, 307 or 308.
        #[schemars(range(min = 301, max = 308))]
        status: u16 = model::Redirect::STATUS,
    }

    /// What the instance is asked for; what isn't set stays as it was asked for.
    pub struct Rewrite {
        /// `host`, or HTTP/2's `:authority`.
        host: HostPattern,
        /// The whole path; the query stays.
        path: RequestPath,
        /// In place of the prefix that the route's only match has; the rest of the path stays.
        prefix: RequestPath,
    }
}

/// Where a copy of a request goes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Mirror {
    /// Name of another service; this one unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Name>,
    /// Of that service; the port that was connected to unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<NonZeroU16>,
    /// Instances with all of these labels; all where there are none.
    pub subset: Labels,
    /// Of the requests, in percent; all of them unless set.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<u32>,
    /// Of the requests, where whole percents are too coarse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fraction: Option<Fraction>,
}

section! {
    /// So many of so many.
    #[schemars(extend("required" = ["numerator"]))]
    pub struct Fraction {
        /// So many,
        #[schemars(range(min = 0, max = 1_000_000_000))]
        numerator: u32,
        /// of so many.
        #[schemars(range(min = 1, max = 1_000_000_000))]
        denominator: u32 = model::Fraction::DENOMINATOR,
    }
}

values! { HostPattern Scheme }

/// Of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Scheme {
    /// Plain.
    Http,
    /// With TLS, which something else must serve.
    Https,
}

impl Filters {
    pub fn model(&self) -> Vec<model::Filter> {
        let request = self.request_headers.as_ref().map(HeaderChanges::model);
        let response = self.response_headers.as_ref().map(HeaderChanges::model);
        let redirect = self.redirect.as_ref().map(Redirect::model);
        let rewrite = self.rewrite.as_ref().map(Rewrite::model);
        let mirrors = self.mirror.iter().flatten();
        let mirrors = mirrors.map(|mirror| model::Filter::Mirror(mirror.model()));
        [
            request.map(model::Filter::RequestHeaders),
            response.map(model::Filter::ResponseHeaders),
            redirect.map(model::Filter::Redirect),
            rewrite.map(model::Filter::Rewrite),
        ]
        .into_iter()
        .flatten()
        .chain(mirrors)
        .collect()
    }
}

impl Mirror {
    fn model(&self) -> model::Mirror {
        let share = match (&self.fraction, self.percent) {
            (Some(fraction), _) => model::Fraction {
                numerator: fraction.numerator.unwrap_or_default(),
                denominator: fraction.denominator(),
            },
            (None, Some(percent)) => model::Fraction { numerator: percent, denominator: 100 },
            (None, None) => model::Fraction::ALL,
        };
        model::Mirror {
            service: self.service.as_ref().map(|name| model::ServiceName::new(&name.0)),
            port: self.port,
            subset: Arc::new(self.subset.texts()),
            share,
        }
    }
}

impl Fraction {
    pub fn denominator(&self) -> u32 {
        self.denominator.unwrap_or(model::Fraction::DENOMINATOR)
    }
}

impl HeaderChanges {
    /// Every name that it sets, adds or removes.
    pub fn names(&self) -> impl Iterator<Item = (&'static str, &HeaderName)> {
        let set = self.set.iter().flat_map(|headers| &headers.0).map(|(name, _)| ("set", name));
        let add = self.add.iter().flat_map(|headers| &headers.0).map(|(name, _)| ("add", name));
        set.chain(add).chain(self.remove.iter().flatten().map(|name| ("remove", name)))
    }

    fn model(&self) -> model::HeaderChanges {
        model::HeaderChanges {
            set: self.set.as_ref().map(Headers::texts).unwrap_or_default(),
            add: self.add.as_ref().map(Headers::texts).unwrap_or_default(),
            remove: self.remove.iter().flatten().map(|name| name.0.clone()).collect(),
        }
    }
}

impl Redirect {
    fn model(&self) -> model::Redirect {
        let scheme = self.scheme.map(|scheme| match scheme {
            Scheme::Http => "http".to_owned(),
            Scheme::Https => "https".to_owned(),
        });
        model::Redirect {
            scheme,
            host: self.host.as_ref().map(|host| host.0.clone()),
            port: self.port.map(NonZeroU16::get),
            path: path_rewrite(self.path.as_ref(), self.prefix.as_ref()),
            status: self.status.unwrap_or(model::Redirect::STATUS),
        }
    }
}

impl Rewrite {
    fn model(&self) -> model::Rewrite {
        model::Rewrite {
            host: self.host.as_ref().map(|host| host.0.clone()),
            path: path_rewrite(self.path.as_ref(), self.prefix.as_ref()),
        }
    }
}

fn path_rewrite(
    path: Option<&RequestPath>,
    prefix: Option<&RequestPath>,
) -> Option<model::PathRewrite> {
    let prefix = || prefix.map(|prefix| model::PathRewrite::Prefix(prefix.0.clone()));
    path.map(|path| model::PathRewrite::Full(path.0.clone())).or_else(prefix)
}
