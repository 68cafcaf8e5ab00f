use std::task::{Context, Waker};

use super::*;

fn poll(copy: &mut Copy) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
    Pin::new(copy).poll_frame(&mut Context::from_waker(Waker::noop()))
}

fn text(copy: &mut Copy) -> String {
    match poll(copy) {
        Poll::Pending => "pending".to_owned(),
        Poll::Ready(None) => "end".to_owned(),
        Poll::Ready(Some(Err(error))) => format!("error: {error}"),
        Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
            Ok(data) => String::from_utf8(data.to_vec()).unwrap(),
            Err(_) => "trailers".to_owned(),
        },
    }
}

fn data(text: &str) -> Frame<Bytes> {
    Frame::data(Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn a_copy_has_all_pieces_in_order_and_ends_as_the_request() {
    let held = Held::default();
    let (tee, mut copy, look) = tee(&SizeHint::with_exact(3), &held);
    assert_eq!(text(&mut copy), "pending");
    tee.push(&data("ab"));
    tee.push(&data(""));
    tee.push(&data("c"));
    assert_eq!((copy.size_hint().exact(), held.get()), (Some(3), 3 + 2 * PIECE));
    assert_eq!((text(&mut copy), copy.size_hint().exact()), ("ab".to_owned(), Some(1)));
    tee.push(&Frame::trailers(HeaderMap::new()));
    tee.end();
    drop(tee);
    assert_eq!(look.end(), End::Whole);
    assert!(!copy.is_end_stream());
    assert_eq!([0; 3].map(|_| text(&mut copy)), ["c", "trailers", "end"]);
    assert!(copy.is_end_stream());
    assert_eq!(held.get(), 0);
}

#[test]
fn a_request_that_breaks_off_never_ends_well() {
    let held = Held::default();
    let (tee, mut copy, look) = tee(&SizeHint::new(), &held);
    tee.push(&data("half"));
    drop(tee);
    assert_eq!((text(&mut copy), look.end()), ("error: the request broke off".into(), End::Broken));
    assert_eq!(held.get(), 0);
}

#[test]
fn what_falls_behind_is_cut_and_holds_nothing() {
    let held = Held::default();
    let (tee, mut copy, look) = tee(&SizeHint::new(), &held);
    let piece = Frame::data(Bytes::from(vec![0; BEHIND / 4]));
    for _ in 0..4 {
        assert!(held.get() <= BEHIND);
        tee.push(&piece);
    }
    assert_eq!((look.end(), held.get()), (End::Behind, 0));
    tee.push(&piece);
    tee.end();
    assert_eq!(held.get(), 0);
    assert!(text(&mut copy).contains("fell behind"));
}

#[test]
fn all_mirrors_of_a_worker_share_a_bound() {
    let held = Held::default();
    let piece = Frame::data(Bytes::from(vec![0; BEHIND - PIECE]));
    let all: Vec<_> = (0..20).map(|_| tee(&SizeHint::new(), &held)).collect();
    for (tee, ..) in &all {
        tee.push(&piece);
    }
    assert_eq!(held.get(), MOST_HELD);
    let open = all.iter().filter(|(_, _, look)| look.end() == End::Open).count();
    assert_eq!(open, MOST_HELD / BEHIND);
    drop(all);
    assert_eq!(held.get(), 0);
}

#[test]
fn pieces_of_one_byte_cost_what_they_cost() {
    let held = Held::default();
    let (tee, _copy, look) = tee(&SizeHint::new(), &held);
    let pieces = (0..BEHIND).take_while(|_| {
        tee.push(&data("x"));
        look.end() == End::Open
    });
    assert_eq!(pieces.count(), BEHIND / (PIECE + 1));
}

#[test]
fn a_mirror_that_is_gone_keeps_nothing() {
    let held = Held::default();
    let (tee, copy, _) = tee(&SizeHint::new(), &held);
    tee.push(&data("kept"));
    drop(copy);
    tee.push(&data("not kept"));
    tee.end();
    assert_eq!(held.get(), 0);
}
