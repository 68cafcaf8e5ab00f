//! Watches of an API server that is a function.

use std::{
    convert::Infallible,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::*;
use crate::kubernetes::Namespace;

/// Lists what `lists` says in turn, then nothing; all watches are answered 410.
fn client(lists: Vec<Value>, asked: Arc<AtomicUsize>) -> kube::Client {
    let lists = Arc::new(Mutex::new(lists.into_iter()));
    let service = tower::util::service_fn(move |request: http::Request<Body>| {
        let watch = request.uri().query().is_some_and(|query| query.contains("watch=1"));
        let (status, body) = if watch {
            (410, json!({ "kind": "Status", "code": 410, "reason": "Expired" }))
        } else {
            asked.fetch_add(1, Ordering::Relaxed);
            let items = lists.lock().unwrap().next().unwrap_or_else(|| json!([]));
            (200, json!({ "metadata": { "resourceVersion": "1" }, "items": items }))
        };
        let response = http::Response::builder().status(status);
        let response = response.body(Body::from(body.to_string().into_bytes())).unwrap();
        async move { Ok::<_, Infallible>(response) }
    });
    kube::Client::new(service, "default")
}

async fn watched(client: kube::Client, time: Duration) -> Arc<Progress> {
    let progress = Arc::new(Progress::new("namespaces".to_owned(), None));
    let stop = CancellationToken::new();
    let sink = |_: Change<Namespace>| {};
    let (selector, known) = (Selector::default(), HashSet::new());
    let watch = watch(client, selector, known, Arc::clone(&progress), sink, stop.clone());
    tokio::select! {
        () = watch => {}
        () = sleep(time) => {}
    }
    progress
}

#[tokio::test(start_paused = true)]
async fn a_gap_after_each_list_is_waited_out() {
    let lists = Arc::new(AtomicUsize::new(0));
    watched(client(Vec::new(), Arc::clone(&lists)), Duration::from_secs(60)).await;
    let lists = lists.load(Ordering::Relaxed);
    assert!((3..20).contains(&lists), "{lists} lists in a minute");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_forgotten_once_it_is_gone() {
    let bad = json!([{ "metadata": { "name": "bad", "labels": 7 } }]);
    let lists = vec![bad; 2];
    let asked = Arc::new(AtomicUsize::new(0));
    let progress = watched(client(lists, asked), Duration::from_secs(60)).await;
    let status = progress.status();
    assert_eq!(status.errors, 2, "it was seen: {status:?}");
    assert!(status.unreadable.is_empty(), "{status:?}");
}
