//! An upstream that does exactly what a test tells it, event by event: what no well-behaved one does, and when.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use super::http::TIMEOUT;

/// A running one. It lives as long as its process: connections end with their peers.
#[derive(Debug)]
pub struct Scripted {
    addr: SocketAddr,
}

/// One request that reached it, and the way to answer.
#[derive(Debug)]
pub struct Talk<'a> {
    /// The request's path, with its query.
    pub path: String,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
    stream: &'a mut TcpStream,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It takes the next request.
    Keep,
    /// It is closed.
    Close,
}

impl Scripted {
    /// Starts it on a free port; `script` is called for each request, on its connection's thread.
    pub fn start(script: impl Fn(&mut Talk<'_>) -> io::Result<Then> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let addr = listener.local_addr().expect("it listens");
        let script = Arc::new(script);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let script = script.clone();
                // A peer that goes away ends its thread.
                std::thread::spawn(move || serve(stream, &*script));
            }
        });
        Self { addr }
    }

    /// An Envoy cluster of that name with nothing but this.
    pub fn cluster(&self, name: &str) -> String {
        let port = self.addr.port();
        format!(
            "- name: {name}
  type: STATIC
  circuit_breakers: {{thresholds: [{{max_connections: 4096, max_pending_requests: 4096, max_requests: 4096}}]}}
  load_assignment:
    cluster_name: {name}
    endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}]}}]
"
        )
    }
}

fn serve(mut stream: TcpStream, script: &dyn Fn(&mut Talk<'_>) -> io::Result<Then>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let line = line(&mut reader)?;
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut headers = Vec::new();
        loop {
            let line = self::line(&mut reader)?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let header = |name: &str| headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str());
        let mut body = Vec::new();
        if header("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
            loop {
                let size = usize::from_str_radix(self::line(&mut reader)?.trim(), 16).map_err(io::Error::other)?;
                let start = body.len();
                body.resize(start + size, 0);
                reader.read_exact(&mut body[start..])?;
                self::line(&mut reader)?;
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = header("content-length") {
            body.resize(length.parse().map_err(io::Error::other)?, 0);
            reader.read_exact(&mut body)?;
        }
        let mut talk = Talk { path, headers, body, stream: &mut stream };
        if script(&mut talk)? == Then::Close {
            return Ok(());
        }
    }
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

impl Talk<'_> {
    /// The value of a header, empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(given, _)| given == name).map_or("", |(_, value)| value.as_str())
    }

    /// A whole answer.
    ///
    /// # Errors
    ///
    /// The peer is gone.
    pub fn answer(&mut self, status: u16, content_type: &str, body: impl AsRef<[u8]>) -> io::Result<Then> {
        let body = body.as_ref();
        let head =
            format!("HTTP/1.1 {status} S\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n", body.len());
        self.stream.write_all(&[head.as_bytes(), body].concat())?;
        Ok(Then::Keep)
    }

    /// A whole answer in JSON, encoded in some way.
    ///
    /// # Errors
    ///
    /// The peer is gone.
    pub fn encoded(&mut self, encoding: &str, body: &[u8]) -> io::Result<Then> {
        let head = format!(
            "HTTP/1.1 200 S\r\ncontent-type: application/json\r\ncontent-encoding: {encoding}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        self.stream.write_all(&[head.as_bytes(), body].concat())?;
        Ok(Then::Keep)
    }

    /// The head of a stream of events.
    ///
    /// # Errors
    ///
    /// The peer is gone.
    pub fn begin(&mut self) -> io::Result<()> {
        self.stream.write_all(HEAD.as_bytes())
    }

    /// The head and the first piece, which arrive together.
    ///
    /// # Errors
    ///
    /// The peer is gone.
    pub fn begin_with(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(&[HEAD.as_bytes(), &chunk(bytes.as_ref())].concat())
    }

    /// A piece of it.
    ///
    /// # Errors
    ///
    /// The peer is gone.
    pub fn piece(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(&chunk(bytes.as_ref()))
    }

    /// Its end.
    ///
    /// # Errors
    ///
    /// The peer is gone.
    pub fn end(&mut self) -> io::Result<Then> {
        self.stream.write_all(b"0\r\n\r\n")?;
        Ok(Then::Keep)
    }

    /// Waits until the peer closes the connection.
    pub fn until_gone(&mut self) -> Then {
        let mut byte = [0];
        while self.stream.read(&mut byte).is_ok_and(|read| read > 0) {}
        Then::Close
    }
}
