//! An HTTP/1.1 client that sends exactly the bytes a test means, and keeps every byte of the answer.
//!
//! Real clients repair requests (merge headers, escape paths, refuse odd bytes), and a limiter has to be tested with
//! what an attacker sends. Nothing here waits for ever: an answer that takes longer than [`TIMEOUT`] fails the test.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// The longest that connecting, one read or one write may take.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// How many requests of a pipeline wait for their responses at a time: on one HTTP/1.1 connection Envoy takes a third
/// response that it could not write yet for a flood, and closes it.
pub const IN_FLIGHT: usize = 2;

/// A request, byte for byte. `host` is added when missing, `content-length` when there is a body; nothing else.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    path: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    /// A request with this method and request target, as they stand.
    pub fn new(method: &str, path: &str) -> Self {
        Self { method: method.to_owned(), path: path.to_owned(), headers: Vec::new(), body: Vec::new() }
    }

    /// `GET path`.
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// Adds one header line; the value may be any bytes, the name may be there already.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Adds header lines.
    pub fn headers(self, headers: &[(&str, &str)]) -> Self {
        headers.iter().fold(self, |request, (name, value)| request.header(name, value))
    }

    /// Sends these bytes as the body, with their `content-length`.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// The bytes that go over the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.path).into_bytes();
        let has = |name: &str| self.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
        if !has("host") {
            bytes.extend_from_slice(b"host: allowance.test\r\n");
        }
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        if !self.body.is_empty() && !has("content-length") {
            bytes.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// A response: names lower-cased, order and duplicates kept, values as the bytes that came.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header lines in the order they came, names lower-cased.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The whole body, chunks joined.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header, the first one if it is repeated; bytes that are not UTF-8 are replaced.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers_named(name).into_iter().next()
    }

    /// The values of every line with that name, in order.
    pub fn headers_named(&self, name: &str) -> Vec<String> {
        let named = self.headers.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
        named.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// The body as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; fails the test, showing the body, when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("body is not JSON ({error}): {:?}", self.text()))
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> =
            self.headers.iter().map(|(name, value)| format!("{name}: {}", value.escape_ascii())).collect();
        let mut response = f.debug_struct("Response");
        response.field("status", &self.status).field("headers", &headers).field("body", &self.text()).finish()
    }
}

/// One kept-alive connection.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects; fails the test when nobody answers.
    pub fn open(addr: SocketAddr) -> Self {
        Self::try_open(addr).unwrap_or_else(|error| panic!("cannot connect to {addr}: {error}"))
    }

    /// Connects, or says why not.
    ///
    /// # Errors
    ///
    /// The connect error, also when it took longer than [`TIMEOUT`].
    pub fn try_open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        // Requests are written in one piece; waiting for an acknowledgement would only measure Nagle's algorithm.
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// This end's address, which is how the peer sees the connection.
    pub fn local_addr(&self) -> SocketAddr {
        self.stream.get_ref().local_addr().expect("a connected socket has an address")
    }

    /// Writes raw bytes, whatever they are.
    pub fn send(&mut self, raw: &[u8]) {
        self.try_send(raw).unwrap_or_else(|error| panic!("cannot write to the connection: {error}"));
    }

    /// Writes raw bytes.
    ///
    /// # Errors
    ///
    /// The peer closed, or did not read in time.
    pub fn try_send(&mut self, raw: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(raw)
    }

    /// Sends a request with these header lines and reads its response.
    pub fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
        self.exchange(&Request::new(method, path).headers(headers))
    }

    /// `GET path` with these header lines.
    pub fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.request("GET", path, headers)
    }

    /// Sends a request and reads its response.
    pub fn exchange(&mut self, request: &Request) -> Response {
        self.send(&request.to_bytes());
        self.read_response(request.method == "HEAD")
    }

    /// Sends requests without waiting for each response, [`IN_FLIGHT`] at a time, and returns the responses in order.
    pub fn pipeline(&mut self, requests: &[Request]) -> Vec<Response> {
        let mut responses = Vec::with_capacity(requests.len());
        let mut answered = requests.iter().map(|request| request.method == "HEAD");
        for (sent, request) in (1..).zip(requests) {
            self.send(&request.to_bytes());
            if sent >= IN_FLIGHT {
                responses.extend(answered.next().map(|head| self.read_response(head)));
            }
        }
        responses.extend(answered.map(|head| self.read_response(head)));
        responses
    }

    /// Reads one response; `head` when it answers a HEAD request and so has no body whatever its headers say.
    pub fn read_response(&mut self, head: bool) -> Response {
        self.try_read_response(head).unwrap_or_else(|error| panic!("no complete response: {error}"))
    }

    /// Reads one response, skipping interim (1xx) ones.
    ///
    /// # Errors
    ///
    /// The peer closed, did not answer in time, or answered something else than HTTP/1.1.
    pub fn try_read_response(&mut self, head: bool) -> io::Result<Response> {
        loop {
            let status = self.status_line()?;
            let headers = self.header_lines()?;
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let mut response = Response { status, headers, body: Vec::new() };
            if !head && status != 101 && status != 204 && status != 304 {
                response.body = self.body(&response)?;
            }
            return Ok(response);
        }
    }

    fn status_line(&mut self) -> io::Result<u16> {
        let line = self.line()?;
        let status =
            line.strip_prefix(b"HTTP/1.1 ").or_else(|| line.strip_prefix(b"HTTP/1.0 ")).and_then(|rest| rest.get(..3));
        status
            .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
            .ok_or_else(|| malformed("a status line", &line))
    }

    fn header_lines(&mut self) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(headers);
            }
            let colon = line.iter().position(|&byte| byte == b':').ok_or_else(|| malformed("a header line", &line))?;
            let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
            headers.push((name, line[colon + 1..].trim_ascii().to_vec()));
        }
    }

    fn body(&mut self, response: &Response) -> io::Result<Vec<u8>> {
        if response.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return self.chunks();
        }
        let mut body = Vec::new();
        match response.header("content-length") {
            Some(length) => {
                let length = length.parse().map_err(|_| malformed("a content-length", length.as_bytes()))?;
                body.resize(length, 0);
                self.stream.read_exact(&mut body)?;
            }
            None => {
                self.stream.read_to_end(&mut body)?;
            }
        }
        Ok(body)
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let digits = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
            let size = std::str::from_utf8(digits).ok().and_then(|digits| usize::from_str_radix(digits, 16).ok());
            let size = size.ok_or_else(|| malformed("a chunk size", &line))?;
            if size == 0 {
                self.header_lines()?; // trailers, which HTTP/1.1 ends with an empty line like headers
                return Ok(body);
            }
            let start = body.len();
            body.resize(start + size, 0);
            self.stream.read_exact(&mut body[start..])?;
            if !self.line()?.is_empty() {
                return Err(malformed("the end of a chunk", b""));
            }
        }
    }

    /// One line without its CRLF.
    fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer closed the connection"));
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(line)
    }
}

fn malformed(expected: &str, got: &[u8]) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("expected {expected}, got {:?}", String::from_utf8_lossy(got)))
}

/// Sends `total` requests from `threads` kept-alive connections at once and returns the responses, by request number.
///
/// `make` is given the request's number; which thread sends it is left to the race that the test wants.
pub fn storm(addr: SocketAddr, threads: usize, total: usize, make: impl Fn(usize) -> Request + Sync) -> Vec<Response> {
    let next = AtomicUsize::new(0);
    let mut numbered: Vec<(usize, Response)> = std::thread::scope(|scope| {
        let send_until_done = || {
            let mut connection = Connection::open(addr);
            let numbers =
                std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed)).take_while(|&number| number < total);
            numbers.map(|number| (number, connection.exchange(&make(number)))).collect::<Vec<_>>()
        };
        let senders: Vec<_> = (0..threads).map(|_| scope.spawn(send_until_done)).collect();
        senders.into_iter().flat_map(|sender| sender.join().expect("a sender failed")).collect()
    });
    numbered.sort_by_key(|(number, _)| *number);
    numbered.into_iter().map(|(_, response)| response).collect()
}
