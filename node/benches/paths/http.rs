//! An HTTP/1.1 client on one kept connection: no more than the rows need, so that it is not the limit.

use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection to a node's API.
pub struct Client {
    stream: TcpStream,
    host: SocketAddr,
    /// What was read and not used.
    buffer: Vec<u8>,
}

impl Client {
    /// Connects.
    pub async fn connect(host: SocketAddr) -> Client {
        let stream = TcpStream::connect(host).await.expect("connected");
        stream.set_nodelay(true).expect("a TCP stream");
        Client { stream, host, buffer: Vec::with_capacity(16 << 10) }
    }

    /// `GET`: the status and the body.
    pub async fn get(&mut self, path: &str) -> (u16, Vec<u8>) {
        let head = format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.host);
        self.exchange(head.as_bytes()).await
    }

    /// `GET` of bytes from the first to the last, both included: the status and the body.
    pub async fn get_range(&mut self, path: &str, first: u64, last: u64) -> (u16, Vec<u8>) {
        let head = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nrange: bytes={first}-{last}\r\n\r\n", self.host);
        self.exchange(head.as_bytes()).await
    }

    /// `POST` of JSON: the status and the body.
    pub async fn post(&mut self, path: &str, json: &str) -> (u16, Vec<u8>) {
        let (host, length) = (self.host, json.len());
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{json}"
        );
        self.exchange(head.as_bytes()).await
    }

    async fn exchange(&mut self, request: &[u8]) -> (u16, Vec<u8>) {
        self.stream.write_all(request).await.expect("sent");
        let head = loop {
            match self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => self.read().await,
            }
        };
        let text = String::from_utf8_lossy(&self.buffer[..head]).to_ascii_lowercase();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|length| length.parse().ok()).expect("a length");
        while self.buffer.len() < head + length {
            self.read().await;
        }
        let body = self.buffer[head..head + length].to_vec();
        self.buffer.drain(..head + length);
        (status, body)
    }

    async fn read(&mut self) {
        let read = self.stream.read_buf(&mut self.buffer).await.expect("received");
        assert!(read > 0, "the server hung up");
    }
}
