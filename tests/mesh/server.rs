//! A web server on loopback: what modules are fetched from.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

/// A server that answers every request with the same bytes.
pub(crate) struct Server {
    addr: SocketAddr,
    asked: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// On this port; 0 is a free one.
    pub(crate) fn start(port: u16, content: Vec<u8>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let (addr, asked, ended) = (listener.local_addr().unwrap(), Arc::default(), Arc::default());
        let thread = {
            let (asked, ended): (Arc<AtomicUsize>, Arc<AtomicBool>) = (Arc::clone(&asked), Arc::clone(&ended));
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    if ended.load(Ordering::SeqCst) {
                        return;
                    }
                    asked.fetch_add(1, Ordering::SeqCst);
                    // Whoever hangs up early is not interested.
                    let _ = stream.and_then(|stream| answer(stream, &content));
                }
            })
        };
        Self { addr, asked, ended, thread: Some(thread) }
    }

    pub(crate) fn port(&self) -> u16 {
        self.addr.port()
    }

    /// How often it was asked so far.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn answer(stream: TcpStream, content: &[u8]) -> std::io::Result<()> {
    let mut reader = BufReader::new(&stream);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", content.len());
    (&stream).write_all(head.as_bytes())?;
    (&stream).write_all(content)
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.addr);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
