//! A rule's matches and filters in the words of the file, whose checks then
//! read them: what they let pass is what the proxy can carry out.

use serde_json::{Map, Value, json};

use super::wire::{
    Condition, Filter, Fraction, GrpcMatch, Header, HeaderModifier, HttpMatch, NewPath, Redirect,
    RequestMirror, Rewrite,
};
use crate::model;

pub fn http_match(one: &HttpMatch) -> Result<Value, String> {
    let mut written = Map::new();
    if let Some(path) = &one.path {
        let value = path.value.as_deref().unwrap_or("/");
        let key = match path.r#type.as_deref() {
            None | Some("PathPrefix") => "prefix",
            Some("Exact") => "exact",
            Some("RegularExpression") => "regex",
            Some(other) => return Err(format!("path.type: `{other}` is not supported")),
        };
        written.insert("path".into(), json!({ key: value }));
    }
    if let Some(method) = &one.method {
        written.insert("method".into(), method.as_str().into());
    }
    written.insert("headers".into(), conditions("headers", &one.headers, true)?);
    written.insert("query".into(), conditions("queryParams", &one.query_params, false)?);
    Ok(written.into())
}

/// Of several for the same name, the first counts (Gateway API).
fn conditions(what: &str, all: &[Condition], ignore_case: bool) -> Result<Value, String> {
    let mut seen: Vec<String> = Vec::new();
    let mut written = Vec::new();
    for condition in all {
        let name = condition.name.clone().unwrap_or_default();
        let folded = if ignore_case { name.to_ascii_lowercase() } else { name.clone() };
        if seen.contains(&folded) {
            continue;
        }
        seen.push(folded);
        let key = match condition.r#type.as_deref() {
            None | Some("Exact") => "exact",
            Some("RegularExpression") => "regex",
            Some(other) => return Err(format!("{what}.type: `{other}` is not supported")),
        };
        written.push(json!({ "name": name, key: condition.value.clone().unwrap_or_default() }));
    }
    Ok(written.into())
}

/// A call of this method, whatever its service.
pub fn method_only(one: &GrpcMatch) -> Option<model::PathMatch> {
    let call = one.method.as_ref().filter(|call| call.service.is_none())?;
    let exact = matches!(call.r#type.as_deref(), None | Some("Exact"));
    call.method.clone().filter(|_| exact).map(model::PathMatch::Call)
}

/// A call of gRPC is a request for `/SERVICE/METHOD`.
pub fn grpc_match(one: &GrpcMatch) -> Result<Value, String> {
    let mut written = Map::new();
    if let Some(method) = &one.method {
        let (service, name) = (method.service.as_deref(), method.method.as_deref());
        let exact = match method.r#type.as_deref() {
            None | Some("Exact") => true,
            Some("RegularExpression") => false,
            Some(other) => return Err(format!("method.type: `{other}` is not supported")),
        };
        let any = "[^/]+";
        let path = match (service, name) {
            (None, None) => None,
            (Some(service), Some(name)) if exact => {
                Some(json!({ "exact": format!("/{service}/{name}") }))
            }
            (Some(service), None) if exact => Some(json!({ "prefix": format!("/{service}") })),
            // The file has no words for it: see `method_only`.
            (None, Some(_)) if exact => None,
            (service, name) => {
                let part = |part: Option<&str>| {
                    part.map_or_else(|| any.to_owned(), |part| format!("(?:{part})"))
                };
                Some(json!({ "regex": format!("/{}/{}", part(service), part(name)) }))
            }
        };
        written.extend(path.map(|path| ("path".to_owned(), path)));
    }
    written.insert("headers".into(), conditions("headers", &one.headers, true)?);
    Ok(written.into())
}

pub fn filters(all: &[Filter]) -> Result<Value, String> {
    let mut written = Map::new();
    let mut mirrors = Vec::new();
    for (index, filter) in all.iter().enumerate() {
        let (key, value) = match filter.r#type.as_str() {
            "RequestHeaderModifier" => {
                ("requestHeaders", modifier(filter.request_header_modifier.as_ref()))
            }
            "ResponseHeaderModifier" => {
                ("responseHeaders", modifier(filter.response_header_modifier.as_ref()))
            }
            "RequestRedirect" => {
                let redirect = redirect(filter.request_redirect.as_ref());
                ("redirect", redirect.map_err(|why| format!("filters[{index}]: {why}"))?)
            }
            "URLRewrite" => {
                let rewrite = rewrite(filter.url_rewrite.as_ref());
                ("rewrite", rewrite.map_err(|why| format!("filters[{index}]: {why}"))?)
            }
            "RequestMirror" => {
                let mirror = filter.request_mirror.as_ref();
                mirrors.push(mirror.map_or_else(|| json!({}), mirrored));
                continue;
            }
            other => {
                return Err(format!(
                    "filters[{index}]: `{other}` is not supported, only RequestHeaderModifier, \
                     ResponseHeaderModifier, RequestRedirect, URLRewrite and RequestMirror"
                ));
            }
        };
        if written.insert(key.into(), value).is_some() {
            return Err(format!("filters[{index}]: a second `{}` is not supported", filter.r#type));
        }
    }
    if !mirrors.is_empty() {
        written.insert("mirror".into(), mirrors.into());
    }
    Ok(written.into())
}

/// Without the service, which may not be there.
fn mirrored(mirror: &RequestMirror) -> Value {
    let mut written = Map::new();
    if let Some(percent) = mirror.percent {
        written.insert("percent".into(), percent.into());
    }
    if let Some(Fraction { numerator, denominator }) = &mirror.fraction {
        let denominator = denominator.unwrap_or(model::Fraction::DENOMINATOR);
        let fraction = json!({ "numerator": numerator, "denominator": denominator });
        written.insert("fraction".into(), fraction);
    }
    written.into()
}

fn modifier(modifier: Option<&HeaderModifier>) -> Value {
    let nothing = HeaderModifier::default();
    let HeaderModifier { set, add, remove } = modifier.unwrap_or(&nothing);
    let fields = |all: &[Header]| -> Map<String, Value> {
        all.iter().map(|one| (one.name.clone(), one.value.as_str().into())).collect()
    };
    let mut written = Map::new();
    if !set.is_empty() {
        written.insert("set".into(), fields(set).into());
    }
    if !add.is_empty() {
        written.insert("add".into(), fields(add).into());
    }
    if !remove.is_empty() {
        written.insert("remove".into(), json!(remove));
    }
    written.into()
}

fn redirect(redirect: Option<&Redirect>) -> Result<Value, String> {
    let nothing = Redirect::default();
    let redirect = redirect.unwrap_or(&nothing);
    let path = redirect.path.as_ref().map(new_path).transpose()?;
    let keys = [
        path.map_or(("path", None), |(key, path)| (key, Some(path.into()))),
        ("scheme", redirect.scheme.clone().map(Value::from)),
        ("host", redirect.hostname.clone().map(Value::from)),
        ("port", redirect.port.map(Value::from)),
        ("status", redirect.status_code.map(Value::from)),
    ];
    let written = keys.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Ok(Value::Object(written.collect()))
}

fn rewrite(rewrite: Option<&Rewrite>) -> Result<Value, String> {
    let nothing = Rewrite::default();
    let rewrite = rewrite.unwrap_or(&nothing);
    let mut written = Map::new();
    if let Some(host) = &rewrite.hostname {
        written.insert("host".into(), host.as_str().into());
    }
    if let Some((key, path)) = rewrite.path.as_ref().map(new_path).transpose()? {
        written.insert(key.into(), path.into());
    }
    Ok(written.into())
}

/// The key of the file, and its value.
fn new_path(path: &NewPath) -> Result<(&'static str, String), String> {
    let or_root = |path: Option<&str>| match path {
        None | Some("") => "/".to_owned(),
        Some(path) => path.to_owned(),
    };
    match path.r#type.as_str() {
        "ReplaceFullPath" => Ok(("path", or_root(path.replace_full_path.as_deref()))),
        "ReplacePrefixMatch" => Ok(("prefix", or_root(path.replace_prefix_match.as_deref()))),
        other => Err(format!("path: `{other}` is not supported")),
    }
}
