//! Requests that wait for their bodies, and those that do not.

use allowance::request::Headers;
use allowance::waiting::Waiting;

fn waiting(headers: &[(&str, &str)]) -> Waiting {
    Waiting::new(Headers::decode(Headers::encode(headers)).unwrap(), 1000)
}

#[test]
fn what_is_not_read_is_not_waited_for() {
    for headers in [
        &[("content-length", "1001")][..],
        &[("content-encoding", "gzip")],
        &[("content-encoding", "identity"), ("content-encoding", "br")],
        &[("upgrade", "websocket")],
        &[(":method", "CONNECT")],
        &[("content-type", "application/grpc+proto")],
    ] {
        let waiting = waiting(headers);
        assert!(waiting.is_decided(), "{headers:?}");
        assert_eq!(waiting.whole().ask, None);
    }
    for headers in [
        &[("content-length", "1000")][..],
        &[("content-length", "many")],
        &[("content-encoding", "identity")],
        &[("content-encoding", "")],
        &[("content-type", "application/json")],
        &[],
    ] {
        let mut waiting = waiting(headers);
        assert!(!waiting.is_decided(), "{headers:?}");
        waiting.push(b"{\"model\":\"m\"}");
        assert_eq!(waiting.whole().ask.unwrap().model.as_deref(), Some("m"));
    }
}

#[test]
fn a_body_that_turns_out_too_large_is_waited_for_no_longer() {
    let mut waiting = waiting(&[]);
    waiting.push(&[b' '; 1000]);
    assert!(!waiting.is_decided());
    waiting.push(b" ");
    assert!(waiting.is_decided());
    assert_eq!((waiting.size(), waiting.whole().ask), (1001, None));
}
