//! From requests to answers.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use serde_json::{Value, json};

use super::{
    api::Api,
    discovery,
    failure::Failure,
    request::{Query, Target, View},
    rights,
    select::Selector,
    store::{Key, Listed},
    stream::{self, Lines},
    write::{self, Part, Patch},
};

/// Body of an answer.
#[derive(Debug)]
pub enum Answer {
    Whole(Option<Bytes>),
    Stream(Lines),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(lines) => {
                lines.poll_recv(context).map(|line| line.map(|line| line.map(Frame::data)))
            }
        }
    }
}

/// An object, or the part of it that the client wants to see.
pub fn shown(object: &Value, view: View) -> Value {
    match view {
        View::Whole => object.clone(),
        View::Metadata => json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": object["metadata"]}),
    }
}

/// Answers one request.
pub async fn answer(api: &Arc<Api>, request: Request<Incoming>) -> Response<Answer> {
    match serve(api, request).await {
        Ok(response) => response,
        Err(failure) => {
            let mut response = whole(failure.code, &failure.to_json());
            if let Some(seconds) = failure.retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            }
            response
        }
    }
}

async fn serve(api: &Arc<Api>, request: Request<Incoming>) -> Result<Response<Answer>, Failure> {
    let (head, body) = request.into_parts();
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let user = api.user(text(header::AUTHORIZATION))?;
    let query = Query::parse(head.uri.query().unwrap_or_default());
    let Some(target) = Target::parse(head.uri.path()) else {
        return Ok(discover(api, head.uri.path()));
    };
    let verb = match (&head.method, &target.name) {
        (&Method::GET, _) if query.is_set("watch") => "watch",
        (&Method::GET, None) => "list",
        (&Method::GET, Some(_)) => "get",
        (&Method::POST, None) => "create",
        (&Method::PUT, Some(_)) => "update",
        (&Method::PATCH, Some(_)) => "patch",
        (&Method::DELETE, Some(_)) => "delete",
        _ => return Err(Failure::new(405, "MethodNotAllowed", "the server does not allow this")),
    };
    api.note(user, verb, &target, &head.uri);
    api.faults.befall(verb, target.resource).await?;
    if !api.store.installed(target.resource) {
        return Ok(no_such_page());
    }
    let namespace = target.namespace.as_deref();
    rights::check(user, verb, (target.resource, target.status), namespace, &api.denied())?;
    let view = View::accepted(text(header::ACCEPT));
    let selector = Selector::parse(query.get("labelSelector"), query.get("fieldSelector"))?;
    match verb {
        "list" => list(api, &target, &selector, &query, view),
        "watch" => {
            // One object is watched as a list of one.
            let selector = match &target.name {
                Some(name) => Selector::parse("", &format!("metadata.name={name}"))?,
                None => selector,
            };
            let lines = stream::start(api, target, selector, &query, view)?;
            Ok(response(200, Answer::Stream(lines)))
        }
        _ => {
            let body = body.collect().await;
            let body = body.map_err(|_| Failure::bad_request("the body broke off"))?.to_bytes();
            let kind = text(header::CONTENT_TYPE);
            one(api, verb, &target, (kind, &query, &body), view)
        }
    }
}

/// Reads or writes one object.
fn one(
    api: &Api,
    verb: &str,
    target: &Target,
    (kind, query, body): (&str, &Query, &[u8]),
    view: View,
) -> Result<Response<Answer>, Failure> {
    let object = match verb {
        "create" | "update" | "patch" => serde_json::from_slice(body)
            .map_err(|error| Failure::bad_request(format!("the body is no JSON: {error}")))?,
        _ => Value::Null,
    };
    let named = object["metadata"]["name"].as_str().map(str::to_owned);
    let generated = || {
        let prefix = object["metadata"]["generateName"].as_str()?;
        Some(format!("{prefix}{:05x}", api.store.revision()))
    };
    let name = target.name.clone().or(named).or_else(generated);
    let name = name.ok_or_else(|| Failure::invalid("name or generateName is required"))?;
    let namespace = target.namespace.clone().unwrap_or_default();
    let key = Key { resource: target.resource, namespace, name };
    let part = if target.status { Part::Status } else { Part::Main };
    let existed = api.store.get(&key);
    let done = match verb {
        "get" => existed.clone().ok_or_else(|| Failure::not_found(key.resource, &key.name)),
        "create" => write::create(&api.store, &key, &object, part),
        "update" => write::update(&api.store, &key, &object, part),
        "delete" => write::delete(&api.store, &key),
        _ => {
            let how = match kind.split(';').next().unwrap_or_default() {
                "application/merge-patch+json" => Patch::Merge,
                "application/strategic-merge-patch+json" => Patch::Strategic,
                "application/json-patch+json" => Patch::Json,
                "application/apply-patch+yaml" => Patch::Apply,
                other => {
                    let message = format!("the server does not know the media type {other:?}");
                    return Err(Failure::new(415, "UnsupportedMediaType", message));
                }
            };
            let manager = query.get("fieldManager");
            let store = (&api.store, &api.applied);
            write::patch(store, &key, (how, &object), (part, manager))
        }
    }?;
    let new = existed.is_none() && matches!(verb, "create" | "patch");
    Ok(whole(if new { 201 } else { 200 }, &shown(&done, view)))
}

fn list(
    api: &Api,
    target: &Target,
    selector: &Selector,
    query: &Query,
    view: View,
) -> Result<Response<Answer>, Failure> {
    let asked = query.number("resourceVersion")?;
    match query.get("resourceVersionMatch") {
        "" => {}
        "Exact" | "NotOlderThan" if asked.is_some() => {}
        other => {
            return Err(Failure::invalid(format!("resourceVersionMatch {other} is forbidden")));
        }
    }
    let mut listed = match query.get("continue") {
        "" => {
            let mut all = api.store.list(target.resource, target.namespace.as_deref());
            all.objects.retain(|object| selector.matches(object));
            all
        }
        token => api.store.rest(token)?,
    };
    if asked.is_some_and(|asked| asked > listed.revision) {
        let message =
            format!("Too large resource version: {asked:?}, current: {}", listed.revision);
        return Err(Failure { retry_after: Some(1), ..Failure::new(504, "Timeout", message) });
    }
    let limit = query.number("limit")?.filter(|limit| *limit > 0).unwrap_or(u64::MAX);
    let mut metadata = json!({"resourceVersion": listed.revision.to_string()});
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    if listed.objects.len() > limit {
        let rest = listed.objects.split_off(limit);
        metadata["remainingItemCount"] = json!(rest.len());
        let rest = Listed { revision: listed.revision, objects: rest };
        metadata["continue"] = json!(api.store.keep(rest));
    }
    let (version, kind) = match view {
        View::Whole => (target.resource.api_version(), format!("{}List", target.resource.kind)),
        View::Metadata => ("meta.k8s.io/v1".to_owned(), "PartialObjectMetadataList".to_owned()),
    };
    let items: Vec<Value> = listed.objects.iter().map(|object| shown(object, view)).collect();
    let list = json!({"kind": kind, "apiVersion": version, "metadata": metadata, "items": items});
    Ok(whole(200, &list))
}

fn discover(api: &Api, path: &str) -> Response<Answer> {
    match discovery::answer(path, |resource| api.store.installed(resource)) {
        Some(found) => whole(200, &found),
        None => no_such_page(),
    }
}

/// What a real server says to paths that it doesn't know: no JSON.
fn no_such_page() -> Response<Answer> {
    let mut response = response(404, Answer::Whole(Some("404 page not found\n".into())));
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

fn whole(status: u16, body: &Value) -> Response<Answer> {
    let bytes = serde_json::to_vec(body).expect("JSON values can be written");
    response(status, Answer::Whole(Some(bytes.into())))
}

fn response(status: u16, body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
