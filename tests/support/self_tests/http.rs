//! The client against a server that answers with scripted bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use crate::support::http::{Connection, Request, storm};

/// Answers every connection with these bytes once it has read something, then closes it.
fn server(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]).unwrap();
            stream.write_all(answer).unwrap();
        }
    });
    addr
}

/// Answers each request on a kept-alive connection with its own request target.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || {
                let mut stream = stream.unwrap();
                let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
                loop {
                    let count = stream.read(&mut buffer).unwrap_or(0);
                    if count == 0 {
                        return;
                    }
                    read.extend_from_slice(&buffer[..count]);
                    while let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
                        let head: Vec<u8> = read.drain(..end + 4).collect();
                        let path = head.split(|&byte| byte == b' ').nth(1).unwrap();
                        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", path.len());
                        stream.write_all(&[head.as_bytes(), path].concat()).unwrap();
                    }
                }
            });
        }
    });
    addr
}

#[test]
fn writes_exactly_what_it_is_told() {
    let request = Request::get("/a b?x=%zz").header("X-Key", b"\xff\x00").header("x-key", "two");
    assert_eq!(
        request.to_bytes(),
        b"GET /a b?x=%zz HTTP/1.1\r\nhost: allowance.test\r\nX-Key: \xff\x00\r\nx-key: two\r\n\r\n"
    );
    let request = Request::new("POST", "/").header("Host", "h").body("{}");
    assert_eq!(request.to_bytes(), b"POST / HTTP/1.1\r\nHost: h\r\ncontent-length: 2\r\n\r\n{}");
}

#[test]
fn keeps_every_byte_of_a_response() {
    let addr = server(
        b"HTTP/1.1 100 Continue\r\n\r\n\
        HTTP/1.1 429 Too Many\r\nX-A: one \r\nx-a: \xfe\r\ncontent-length: 3\r\n\r\nno\xff",
    );
    let response = Connection::open(addr).get("/", &[]);
    assert_eq!(response.status, 429);
    assert_eq!(response.headers[..2], [("x-a".to_owned(), b"one".to_vec()), ("x-a".to_owned(), b"\xfe".to_vec())]);
    assert_eq!(response.headers_named("X-A"), ["one", "\u{fffd}"]);
    assert_eq!(response.body, b"no\xff");
}

#[test]
fn joins_chunks_and_reads_to_the_end() {
    let chunked = server(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=1\r\n0123456789\r\n0\r\nt: 1\r\n\r\n",
    );
    assert_eq!(Connection::open(chunked).get("/", &[]).text(), "abc0123456789");
    let closed = server(b"HTTP/1.1 200 OK\r\n\r\nuntil the end");
    assert_eq!(Connection::open(closed).get("/", &[]).text(), "until the end");
}

#[test]
fn knows_responses_without_a_body() {
    let addr = server(b"HTTP/1.1 204 No\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nHTTP/1.1 304 Not\r\n\r\n");
    let mut connection = Connection::open(addr);
    connection.send(b"HEAD / HTTP/1.1\r\n\r\n");
    let statuses = [false, true, false].map(|head| connection.read_response(head).status);
    assert_eq!(statuses, [204, 200, 304]);
    assert!(connection.try_read_response(false).is_err(), "the peer closed");
}

#[test]
fn refuses_what_is_not_http() {
    let error = |answer| {
        let mut connection = Connection::open(server(answer));
        connection.send(b"x");
        connection.try_read_response(false).unwrap_err().to_string()
    };
    assert_eq!(error(b"SSH-2.0\r\n"), "expected a status line, got \"SSH-2.0\"");
    assert_eq!(error(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"), "expected a content-length, got \"x\"");
    assert_eq!(error(b"HTTP/1.1 200 OK\r\n"), "the peer closed the connection");
}

#[test]
fn pipelined_responses_keep_their_order() {
    let requests: Vec<_> = (0..50).map(|number| Request::get(&format!("/{number}"))).collect();
    let responses = Connection::open(echo()).pipeline(&requests);
    let paths: Vec<_> = responses.iter().map(|response| response.text()).collect();
    assert_eq!(paths, (0..50).map(|number| format!("/{number}")).collect::<Vec<_>>());
}

#[test]
fn a_storm_answers_every_number_once() {
    let responses = storm(echo(), 8, 500, |number| Request::get(&format!("/{number}")));
    let paths: Vec<_> = responses.iter().map(|response| response.text()).collect();
    assert_eq!(paths, (0..500).map(|number| format!("/{number}")).collect::<Vec<_>>());
}
